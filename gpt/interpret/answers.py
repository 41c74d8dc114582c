"""Answers to questions about a position in a text, as plain values. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Layer(NamedTuple):
    """What the residual stream after one layer predicts, read as if it were the last layer.

    This is the logit lens, see gpt/interpret/lens.py.
    """

    name: str
    """"embedding", then "layer 1" and so on."""
    ids: tuple[int, ...]
    """The most probable tokens, best first."""
    bytes: tuple[bytes, ...]
    """The bytes of each of these tokens."""
    logprobs: tuple[float, ...]
    """The log-probability of each, in nats."""
    chosen_logprob: float
    """Log-probability of the token at this position in the text, in nats."""
    chosen_rank: int
    """Its rank; 1 is the most probable token."""
    attention: tuple[tuple[float, ...], ...]
    """For each head, the weight of each token in the context; they sum to 1. Empty for the
    embedding."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**self._asdict(), "bytes": [list(data) for data in self.bytes]}

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


class Row(NamedTuple):
    """One token's probability after each stage of the settings."""

    token_id: int
    bytes: bytes
    probabilities: tuple[float, ...]
    """Probability after each stage; 0 from the stage that removed the token."""
    removed_by: str | None
    """The stage that removed the token; None if it can be drawn."""


class Waterfall(NamedTuple):
    """The model's distribution of one token, and how each setting in turn changed it."""

    position: int
    """Index of the token in the text."""
    stages: tuple[str, ...]
    """"model", then the settings that are not neutral, in the order in which they act."""
    rows: tuple[Row, ...]
    """The model's most probable tokens, best first, then other important ones: the most probable
    after the settings, the token at this position in the text, and the one drawn."""
    n_rest: int
    """Number of tokens in the vocabulary that have no row."""
    rest: tuple[float, ...]
    """Total probability of the tokens that have no row, after each stage."""
    left: tuple[int, ...]
    """Number of tokens in the whole vocabulary that can still be drawn after each stage."""
    drawn: int
    """The token that these settings draw at this position, with their seed."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        rows = [{**row._asdict(), "bytes": list(row.bytes)} for row in self.rows]
        return {**self._asdict(), "rows": rows}

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


class LikelyPath(NamedTuple):
    """One of the most probable continuations."""

    ids: tuple[int, ...]
    bytes: tuple[bytes, ...]
    """The bytes of each token."""
    logprobs: tuple[float, ...]
    """The model's log-probability of each token after the ones before it, in nats."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**self._asdict(), "bytes": [list(data) for data in self.bytes]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LikelyPath:
        """The reverse of to_dict. Raises KeyError, TypeError or ValueError on other shapes."""
        data = tuple(bytes(numbers) for numbers in values["bytes"])
        return cls(tuple(values["ids"]), data, tuple(values["logprobs"]))
