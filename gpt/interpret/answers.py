"""Answers to questions about a position of a text, as plain numbers; no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Layer:
    """The residual stream behind one layer, read as if it were the last one (the logit lens)."""

    name: str
    """"embedding", then "layer 1" and so on."""
    ids: tuple[int, ...]
    """The most probable tokens, best first."""
    bytes: tuple[bytes, ...]
    logprobs: tuple[float, ...]
    chosen_logprob: float
    """Of the token that stands there."""
    chosen_rank: int
    attention: tuple[tuple[float, ...], ...]
    """For each head, the weight of each token of the context; they sum to 1. None of the
    embedding."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "bytes": [list(data) for data in self.bytes]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Layer:
        """The reverse of to_dict. Raises KeyError, TypeError or ValueError on other shapes."""
        lists = {name: tuple(values[name]) for name in ("ids", "logprobs")}
        return cls(
            **{
                **values,
                **lists,
                "bytes": tuple(bytes(numbers) for numbers in values["bytes"]),
                "attention": tuple(tuple(head) for head in values["attention"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate on its way through the stages."""

    token_id: int
    bytes: bytes
    probabilities: tuple[float, ...]
    """After each stage; 0 from the stage on that removed it."""
    removed_by: str | None
    """The stage that took it out; None where it could be drawn."""


@dataclass(frozen=True, slots=True)
class Waterfall:
    """The model's distribution of one token and what each setting in turn made of it."""

    position: int
    """Index of the token in the text."""
    stages: tuple[str, ...]
    """"model", then the settings that are not neutral, in the order in which they act."""
    rows: tuple[Row, ...]
    """The model's most probable tokens, best first, then others that matter here: those that the
    settings brought among the best, the token that stands in the text and the one drawn."""
    n_rest: int
    """Tokens of the vocabulary that have no row."""
    rest: tuple[float, ...]
    """Their probability together, after each stage."""
    left: tuple[int, ...]
    """How many tokens of the whole vocabulary can still be drawn after each stage."""
    drawn: int
    """The token that the dice of these settings' seed take here."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = [{**asdict(row), "bytes": list(row.bytes)} for row in self.rows]
        return {**asdict(self), "rows": rows}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Waterfall:
        """The reverse of to_dict. Raises KeyError, TypeError or ValueError on other shapes."""
        rows = tuple(
            Row(
                row["token_id"], bytes(row["bytes"]), tuple(row["probabilities"]), row["removed_by"]
            )
            for row in values["rows"]
        )
        lists = {name: tuple(values[name]) for name in ("stages", "rest", "left")}
        return cls(**{**values, "rows": rows, **lists})


@dataclass(frozen=True, slots=True)
class LikelyPath:
    """One of the most probable continuations."""

    ids: tuple[int, ...]
    bytes: tuple[bytes, ...]
    """Of each token."""
    logprobs: tuple[float, ...]
    """Of each token given those before it, the model's own."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "bytes": [list(data) for data in self.bytes]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LikelyPath:
        """The reverse of to_dict. Raises KeyError, TypeError or ValueError on other shapes."""
        data = tuple(bytes(numbers) for numbers in values["bytes"])
        return cls(tuple(values["ids"]), data, tuple(values["logprobs"]))
