"""Made-up answers to requests that reach into a network, of the right shape and plausible."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from gpt.interpret.answers import Row, Waterfall
from gpt.interpret.effects import Directions, Effect, Mattered, PatchGrid, Steering
from gpt.interpret.looks import Neighbour, Neighbours, Place, Plane, Token
from gpt.interventions import Intervention, Steer
from gpt.record import Record

_BITS = math.log(2)
LAYERS = 4
"""Rows of a patch grid: the embedding and three layers."""


def mattered(ids: Sequence[int], chosen: int, last: int, measures: Sequence[str]) -> Mattered:
    """Token i raises the probability by i bits if left out, lowers it by half of that if cut."""
    n = len(ids)
    nothing: tuple[float | None, ...] = (None,) * n
    factors = {"left out": 1.0, "cut": -0.5, "gradient": 0.25}
    made = {
        name: tuple(factor * i * _BITS for i in range(n)) if name in measures else nothing
        for name, factor in factors.items()
    }
    cut = (*made["cut"][:-1], None)
    return Mattered(made["left out"], cut, made["gradient"])


def effect(ids: Sequence[int], interventions: Sequence[Intervention]) -> Effect:
    """Each token moves by half a bit for each change; P goes from 50 % to 25 %."""
    n = len(ids) - 1
    nats = 0.5 * _BITS * len(interventions)
    return Effect((None, *(nats,) * n), (None, *(-_BITS,) * n), (None, *(-2 * _BITS,) * n))


def waterfall(ids: Sequence[int], chosen: int, interventions: Sequence[Intervention]) -> Waterfall:
    """The token goes from 50 % to 25 %, rounded not as in `effect`; an x from 10 to 35 %."""
    assert interventions
    rows = (Row(chosen, b"p", (0.5006, 0.2496), None), Row(1, b"x", (0.1, 0.35), None))
    stages = "model", "interventions"
    return Waterfall(len(ids), stages, rows, 48, (0.4, 0.4), (50, 50), chosen)


def steering(ids: Sequence[int], interventions: Sequence[Intervention]) -> Directions:
    """A direction of length 2 beside a stream of length 8."""
    steers = [each for each in interventions if isinstance(each, Steer)]
    return Directions(tuple(Steering(2.0, 2.0 * abs(s.strength), 8.0, 10.0) for s in steers))


def patch(
    ids: Sequence[int],
    other: Sequence[int],
    chosen: int,
    versus: int,
    positions: Sequence[int],
) -> PatchGrid:
    """The first column matters early, the last one late; from 1 here to 3 there."""
    n = len(positions)
    share = tuple(
        tuple((1 - r / 3 if c == 0 else r / 3 if c == n - 1 else -0.25) for c in range(n))
        for r in range(LAYERS)
    )
    difference = tuple(tuple(1 + 2 * each for each in row) for row in share)
    layers = tuple(range(LAYERS))
    return PatchGrid(chosen, versus, 1.0, 3.0, layers, tuple(positions), difference, share)


def neighbours(plus: Sequence[int], minus: Sequence[int], matrix: str, top: int) -> Neighbours:
    """The letters after the first token; by dot product in the reverse order."""
    tokens = [(plus[0] + i) % 128 for i in range(1, top + 1)]
    named = [Token(i, b"" if matrix == "positions" else bytes([i])) for i in tokens]
    found = tuple(Neighbour(t, 1 - 0.01 * i, 2.0 + i) for i, t in enumerate(named, 1))
    return Neighbours(matrix, found, found[::-1])  # type: ignore[arg-type]


def plane(tokens: Sequence[int], matrix: str) -> Plane:
    """Points on a diagonal."""
    places = tuple(Place(Token(i, bytes([i])), float(n), float(n)) for n, i in enumerate(tokens))
    return Plane(matrix, places, (0.5, 0.25))  # type: ignore[arg-type]


ANSWERS: Mapping[str, Callable[..., Record | Waterfall]] = {
    "waterfall": waterfall,
    "mattered": mattered,
    "effect": effect,
    "steering": steering,
    "patch": patch,
    "neighbours": neighbours,
    "plane": plane,
}
