"""What a network holds behind each of its layers, as plain numbers; no torch."""

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
