"""Made-up answers about the inside of a network, of the right shape and plausible."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gpt.config import ModelConfig
from gpt.interpret.answers import Waterfall
from gpt.interpret.looks import (
    Heads,
    HeadScores,
    LensCell,
    LensGrid,
    LogitPart,
    LogitParts,
    PartName,
    StreamNorms,
    Token,
    Work,
    WorkRow,
)
from gpt.record import Record
from tests.tui import fake_reach

CONFIG = ModelConfig(vocab_size=128, block_size=64, n_layer=3, n_head=2, n_embd=8)


def _token(i: int) -> Token:
    return Token(i, bytes([i]))


def lens(ids: Sequence[int], last: int, middle: bool) -> LensGrid:
    """Later layers are surer, and the last one guesses the token of the text."""
    n = len(ids)
    positions = tuple(range(max(1, n - last + 1), n + 1))
    rows = [(0, False)]
    for layer in range(1, CONFIG.n_layer + 1):
        rows += [(layer, True), (layer, False)] if middle else [(layer, False)]
    shares = [(i + 1) / len(rows) for i in range(len(rows))]

    def guess(row: int, position: int) -> int:
        return ids[position] if row == len(rows) - 1 and position < n else ord("a") + row

    def same(value: float) -> tuple[float, ...]:
        return (value,) * len(positions)

    guesses = tuple(tuple(guess(r, p) for p in positions) for r in range(len(rows)))
    return LensGrid(
        layers=tuple(layer for layer, _ in rows),
        is_middle=tuple(is_middle for _, is_middle in rows),
        positions=positions,
        ids=guesses,
        logprobs=tuple(same(math.log(0.9 * share)) for share in shares),
        chosen_logprobs=tuple(
            tuple(math.log(0.5 * share) if p < n else None for p in positions) for share in shares
        ),
        entropies=tuple(same(3 * (1 - share)) for share in shares),
        divergences=tuple(same(2 * (1 - share)) for share in shares),
        tokens=tuple(_token(i) for i in sorted({i for row in guesses for i in row})),
    )


def cell(ids: Sequence[int], layer: int, middle: bool, top: int) -> LensCell:
    """Ten letters, each half as probable as the one before."""
    tokens = tuple(_token(ord("a") + layer + i) for i in range(top))
    return LensCell(
        layer, middle, len(ids), tokens, tuple(-math.log(2) * (i + 1) for i in range(top))
    )


def _weights(layer: int, head: int, n: int) -> tuple[float, ...]:
    """Head 1 looks at the token before, head 2 at the first one; deeper layers a little less."""
    most = 1 - 0.1 * layer if n > 1 else 1.0
    at = max(0, n - 2) if head == 1 else 0
    return tuple(most if i == at else (1 - most) / max(1, n - 1) for i in range(n))


def heads(ids: Sequence[int], scores: bool) -> Heads:
    """Two heads in each layer, of which the first is a previous-token head."""
    n = len(ids)
    numbers = range(1, CONFIG.n_head + 1)
    layers = range(1, CONFIG.n_layer + 1)
    found = tuple(
        HeadScores(layer, head, 1 - 0.1 * layer if head == 1 else 0.05, 0.1 * layer, None, 0.2)
        for layer in layers
        for head in numbers
    )
    weights = tuple(tuple(_weights(layer, head, n) for head in numbers) for layer in layers)
    return Heads(n - 1, 0, weights, found if scores else (), 0)


def work(ids: Sequence[int], layer: int, head: int, components: int) -> Work:
    """The weights of `heads`, and vectors that count up."""
    vector = tuple(0.5 * i for i in range(min(components, CONFIG.head_size)))
    rows = tuple(
        WorkRow(i, _token(each), vector, 1.5, vector, 2.5, 2 * math.log(w), math.log(w), True, w)
        for i, (each, w) in enumerate(zip(ids, _weights(layer, head, len(ids)), strict=True))
    )
    shared = (layer, head, head, CONFIG.head_size, 0.5, len(ids) - 1, False, False, vector, 3.25)
    return Work(*shared, rows, vector, 4.5, vector, 5.25)


def parts(ids: Sequence[int], chosen: int, versus: int | None) -> LogitParts:
    """Parts of both signs; with another token, half of each."""
    half = 1.0 if versus is None else 0.5
    named: list[tuple[PartName, int, int | None]] = [("token", 0, None), ("position", 0, None)]
    for layer in range(1, CONFIG.n_layer + 1):
        named += [("head", layer, head) for head in range(1, CONFIG.n_head + 1)]
        named.append(("mlp", layer, None))
    values = [half * (-1) ** i * (0.25 + 0.125 * i) for i in range(len(named))]
    found = tuple(LogitPart(*name, value) for name, value in zip(named, values, strict=True))
    return LogitParts(chosen, versus, found, math.fsum(values), math.fsum(values))


def norms(ids: Sequence[int]) -> StreamNorms:
    """Longer after each layer; the first token's are longest."""
    rows = range(CONFIG.n_layer + 1)
    return StreamNorms(
        0, tuple(tuple(2.0 ** (r + (i == 0)) for i in range(len(ids))) for r in rows)
    )


_ANSWERS: Mapping[str, Callable[..., Record | Waterfall]] = {
    "lens": lens,
    "cell": cell,
    "heads": heads,
    "work": work,
    "parts": parts,
    "norms": norms,
    **fake_reach.ANSWERS,
}


_OF_CHANGED = ("lens", "cell", "heads", "work", "norms", "mattered")
"""Requests that a changed network answers, too; made-up numbers are the same then."""


def inside(op: str, **fields: Any) -> Record | Waterfall:
    """The answer to a request."""
    if op in _OF_CHANGED:
        fields.pop("interventions", None)
    return _ANSWERS[op](**fields)
