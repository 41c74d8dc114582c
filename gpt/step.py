"""One token and what the model thought of it: the record for screen, pipe and file.

Plain values only; it knows no torch and no network. Logarithms are natural, so a probability
is exp(logprob) and entropy is in nats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gpt.typed_values import check, is_list, is_number, is_text, is_whole, or_none

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
        """The reverse of to_dict, for what a program of ours wrote just now.

        Raises KeyError, TypeError or ValueError on other shapes; values are not looked at.
        """
        return cls(
            **{
                **values,
                "bytes": bytes(values["bytes"]),
                "candidates": tuple(Candidate.from_dict(c) for c in values["candidates"]),
            }
        )

    @classmethod
    def checked(cls, values: Any) -> Step:
        """The same for what a file says, which may be anything.

        Raises ValueError or TypeError if it is not a Step that can be shown.
        """
        check(values, _STEP)
        for candidate in values["candidates"]:
            check(candidate, _CANDIDATE)
        return cls.from_dict(values)


_is_logprob = is_number(-3.5e38, 1e-3)  # float32's, which may miss 0 by a little
_CANDIDATE = {
    "token_id": is_whole,
    "bytes": is_list,  # bytes() itself refuses what is not a byte in it
    "logprob": _is_logprob,
    "sampling_logprob": or_none(_is_logprob),
}
_STEP = {
    **_CANDIDATE,
    "position": is_whole,
    "text": is_text,
    "logprob": or_none(_is_logprob),
    "rank": or_none(is_whole),
    "entropy": or_none(is_number(-1e-3, 100)),
    "candidates": is_list,
    "finish_reason": or_none(lambda value: value in get_args(FinishReason)),
}
