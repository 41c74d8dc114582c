"""One token and what the model thought of it: the record for screen, pipe and file.

Plain values only; it knows no torch and no network. Logarithms are natural, so a probability
is exp(logprob) and entropy is in nats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

FinishReason = Literal["length", "stop", "eos", "context full", "cancelled"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A token that could have stood there."""

    token_id: int
    bytes: bytes
    logprob: float
    """The model's own, at temperature 1."""
    sampling_logprob: float | None = None
    """After the sampling settings; None if they removed it, or if nothing was sampled."""

    @property
    def text(self) -> str:
        """The token alone; bytes that are no whole character become U+FFFD."""
        return self.bytes.decode("utf-8", "replace")

    def to_dict(self) -> dict[str, Any]:
        """The documented JSON shape."""
        return {
            "token_id": self.token_id,
            "bytes": list(self.bytes),
            "text": self.text,
            "logprob": self.logprob,
            "sampling_logprob": self.sampling_logprob,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Candidate:
        """The reverse of to_dict. Raises KeyError, TypeError or ValueError on other shapes."""
        return cls(
            values["token_id"],
            bytes(values["bytes"]),
            values["logprob"],
            values["sampling_logprob"],
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One token of a text, of the prompt or drawn.

    logprob, rank, entropy and candidates are the model's own at temperature 1, over the whole
    vocabulary, given the tokens before. They are None (and empty) for the first token of a
    text, which has no context.
    """

    position: int
    """Index in the text, from 0."""
    token_id: int
    bytes: bytes
    text: str
    """What this token adds to the text: empty while a character is only half there."""
    logprob: float | None = None
    rank: int | None = None
    """1 for the most probable token."""
    entropy: float | None = None
    """Nats; exp(entropy) is the number of equally likely tokens with as much uncertainty."""
    candidates: tuple[Candidate, ...] = ()
    """The most probable tokens, best first."""
    sampling_logprob: float | None = None
    """After the sampling settings; None for tokens that were not drawn."""
    finish_reason: FinishReason | None = None
    """Why the text ends here, on the last drawn token."""

    def to_dict(self) -> dict[str, Any]:
        """The documented JSON shape."""
        return {
            "position": self.position,
            "token_id": self.token_id,
            "bytes": list(self.bytes),
            "text": self.text,
            "logprob": self.logprob,
            "rank": self.rank,
            "entropy": self.entropy,
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "sampling_logprob": self.sampling_logprob,
            "finish_reason": self.finish_reason,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Step:
        """The reverse of to_dict. Raises KeyError, TypeError or ValueError on other shapes."""
        return cls(
            **{
                **values,
                "bytes": bytes(values["bytes"]),
                "candidates": tuple(Candidate.from_dict(c) for c in values["candidates"]),
            }
        )
