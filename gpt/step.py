"""One token and what the model predicted at its position: the record for screen, pipe and file.

Plain values only, without torch. Logarithms are natural, so a probability is exp(logprob) and
entropy is in nats.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from gpt.typed_values import check, is_flag, is_list, is_number, is_text, is_whole, or_none

_Bytes = bytes  # a field has this name
FinishReason = Literal["length", "stop", "eos", "context full", "cancelled"]


class Candidate(NamedTuple):
    """One of the most probable tokens at a position."""

    token_id: int
    bytes: bytes
    logprob: float
    """The model's own log-probability, at temperature 1."""
    sampling_logprob: float | None = None
    """Log-probability after the sampling settings; None if they removed the token, or if nothing
    was sampled at this position."""
    name: str = ""
    """Name of a special token, which has no bytes."""

    @property
    def text(self) -> str:
        """The token's text; bytes that are not a whole character become U+FFFD."""
        return self.bytes.decode("utf-8", "replace")

    def to_dict(self) -> dict[str, Any]:
        """The documented JSON shape."""
        return {
            "token_id": self.token_id,
            "bytes": list(self.bytes),
            "text": self.text,
            "logprob": self.logprob,
            "sampling_logprob": self.sampling_logprob,
            **({"name": self.name} if self.name else {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Candidate:
        """The reverse of to_dict. Other values raise KeyError, TypeError or ValueError."""
        return cls(
            values["token_id"],
            bytes(values["bytes"]),
            values["logprob"],
            values["sampling_logprob"],
            values.get("name", ""),
        )


class Step(NamedTuple):
    """One token of a text, from the prompt or drawn.

    logprob, rank, entropy and candidates describe the model's own distribution: at temperature 1,
    over the whole vocabulary, given the tokens before. They are None (candidates: empty) for the
    first token of a text, which has no context.
    """

    position: int
    """Index in the text, from 0."""
    token_id: int
    bytes: bytes
    text: str
    """Characters that this token completes; empty if it ends inside a character."""
    logprob: float | None = None
    """Log-probability of the token."""
    rank: int | None = None
    """Place of the token among all tokens by probability; 1 is the most probable."""
    entropy: float | None = None
    """Uncertainty of the distribution in nats, equal to that of exp(entropy) equally likely
    tokens."""
    candidates: tuple[Candidate, ...] = ()
    """The most probable tokens, best first."""
    sampling_logprob: float | None = None
    """Log-probability after the sampling settings; None if the token was not drawn."""
    finish_reason: FinishReason | None = None
    """Why drawing ended; only on the last drawn token."""
    name: str = ""
    """Name of a special token, which has no bytes."""
    by_template: bool = False
    """Whether a chat template wrote it around what the person wrote."""
    entropy_is_bound: bool = False
    """Whether `entropy` is only a lower bound: a server showed its best candidates alone."""
    mirostat_mu: float | None = None
    """mirostat's mu with which the token was drawn, in bits; None without mirostat."""

    @property
    def added(self) -> _Bytes:
        """Bytes that the token adds to its text: a text does not have the blank that SentencePiece
        puts before it."""
        data = self.bytes
        if not data.startswith(b" ") or data.decode("utf-8", "replace") == self.text:
            return data
        decode = getincrementaldecoder("utf-8")("replace").decode  # a character may go on later
        return data[1:] if decode(data[1:]) == self.text else data

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
            **({"name": self.name} if self.name else {}),
            **({"entropy_is_bound": True} if self.entropy_is_bound else {}),
            **({} if self.mirostat_mu is None else {"mirostat_mu": self.mirostat_mu}),
            **({"by_template": True} if self.by_template else {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Step:
        """The reverse of to_dict, for values from our own engine, which are not checked.

        Values of another shape raise KeyError, TypeError or ValueError.
        """
        return cls(
            **{
                **values,
                "bytes": bytes(values["bytes"]),
                "candidates": tuple(Candidate.from_dict(c) for c in values["candidates"]),
            }
        )

    @classmethod
    def from_untrusted(cls, values: Any) -> Step:
        """The reverse of to_dict, for values from a file, which may hold anything.

        Raises ValueError or TypeError if they are not a Step that can be shown.
        """
        check(values, _STEP)
        for candidate in values["candidates"]:
            check(candidate, _CANDIDATE)
        return cls.from_dict(values)


_is_logprob = is_number(-3.5e38, 1e-3)  # float32: rounding may make it a little more than 0
_CANDIDATE = {
    "token_id": is_whole,
    "bytes": is_list,  # bytes() checks what is in it
    "logprob": _is_logprob,
    "sampling_logprob": or_none(_is_logprob),
    "name": or_none(is_text),
}
_STEP = {
    **_CANDIDATE,
    "position": is_whole,
    "text": is_text,
    "logprob": or_none(_is_logprob),
    "rank": or_none(is_whole),
    "entropy": or_none(is_number(-1e-3, 100)),
    "candidates": is_list,
    "entropy_is_bound": or_none(is_flag),
    "by_template": or_none(is_flag),
    "mirostat_mu": or_none(is_number(-1e9, 1e9)),
    "finish_reason": or_none(lambda value: value in get_args(FinishReason)),
}
