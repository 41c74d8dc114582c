"""The engine's requests about the inside of the network. docs/engine.md describes each field."""

from __future__ import annotations

from dataclasses import dataclass

from gpt.interventions import Intervention
from gpt.protocol.path import ChangedRequest, PathRequest, Request


@dataclass(frozen=True, kw_only=True)
class Lens(ChangedRequest):
    """Ask what each layer would predict for the last tokens of the path."""

    last: int = 100
    middle: bool = False


@dataclass(frozen=True, kw_only=True)
class Cell(ChangedRequest):
    """Ask for the most probable tokens of one layer, after the path."""

    layer: int = 0
    middle: bool = False
    top: int = 10


@dataclass(frozen=True, kw_only=True)
class Heads(ChangedRequest):
    """Ask where all heads look from the last token of the path."""

    scores: bool = True


@dataclass(frozen=True, kw_only=True)
class Work(ChangedRequest):
    """Ask for the whole calculation of one head, for the last token of the path."""

    layer: int = 1
    head: int = 1
    components: int = 8


@dataclass(frozen=True, kw_only=True)
class Norms(ChangedRequest):
    """Ask for the norms of the residual stream."""


@dataclass(frozen=True, kw_only=True)
class Parts(PathRequest):
    """Ask what each part of the network contributes to a logit after the path."""

    chosen: int = 0
    versus: int | None = None


@dataclass(frozen=True, kw_only=True)
class Mattered(ChangedRequest):
    """Ask what each token of the path did for a token after it."""

    chosen: int = 0
    last: int = 64
    measures: tuple[str, ...] = ("left out", "cut", "gradient")


@dataclass(frozen=True, kw_only=True)
class Effect(PathRequest):
    """Ask what interventions do to the distribution of each token of the path."""

    interventions: tuple[Intervention, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Steering(PathRequest):
    """Ask how large the directions among the interventions are, and how large the stream is."""

    interventions: tuple[Intervention, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Patch(PathRequest):
    """Ask how far each activation of another text moves a difference of two logits."""

    other: tuple[int, ...] = ()
    other_text: str = ""
    chosen: int = 0
    versus: int = 0
    positions: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Neighbours(Request):
    """Ask for the rows of a matrix that are nearest to a sum of rows."""

    plus: tuple[int, ...]
    minus: tuple[int, ...] = ()
    matrix: str = "embedding"
    top: int = 10


@dataclass(frozen=True, kw_only=True)
class Plane(Request):
    """Ask for tokens as points on a plane."""

    tokens: tuple[int, ...]
    matrix: str = "embedding"


INSIDE: dict[str, type[Request]] = {
    "lens": Lens,
    "cell": Cell,
    "heads": Heads,
    "work": Work,
    "norms": Norms,
    "parts": Parts,
    "mattered": Mattered,
    "effect": Effect,
    "steering": Steering,
    "patch": Patch,
    "neighbours": Neighbours,
    "plane": Plane,
}
"""For each `op`: the class of the request."""
