"""The fields of OpenAI's completions that vLLM and others share."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from gpt.remote import fields
from gpt.settings import Sampling
from gpt.step import FinishReason

SENDS = frozenset(
    (
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "banned",
        "boosted",
    )
)
"""Our settings that vLLM and SGLang have."""
_MOST_BIAS = 100.0
"""Nats that a bias may have; this much decides."""
_LEAST_TOP_P = 1e-9


def seed_at(sampling: Sampling, position: int) -> int:
    """The server's seed for a run that begins at a position: the same text gives the same run, and
    one that goes on does not repeat the noise of the last one."""
    return zlib.crc32(f"{sampling.seed} {position}".encode()) % (2**31 - 1)


def settings(sampling: Sampling, position: int) -> dict[str, Any]:
    """All settings of a run that begins at a position. Defaults may come from the model's files, so
    that neutral values are sent as well."""
    bias = {str(token_id): nats for (token_id,), nats in sampling.boosted}
    bias |= {str(token_id): -_MOST_BIAS for (token_id,) in sampling.banned}
    clipped = {i: max(-_MOST_BIAS, min(nats, _MOST_BIAS)) for i, nats in bias.items()}
    return {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k or -1,
        "top_p": max(sampling.top_p, _LEAST_TOP_P),
        "min_p": sampling.min_p,
        "repetition_penalty": sampling.repetition_penalty,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "seed": seed_at(sampling, position),
        **({"logit_bias": clipped} if clipped else {}),
    }


def choices(values: Any) -> list[dict[str, Any]]:
    """The choices of an answer or of an event, in the order of the prompts."""
    found = fields.items(fields.table(values).get("choices"), "its choices")
    tables = [fields.table(choice, "a choice") for choice in found]
    return sorted(tables, key=lambda choice: fields.small_size(choice.get("index")))


def finish_of(choice: Mapping[str, Any]) -> FinishReason | None:
    """Why a choice ended; None if it goes on. Stop strings are never sent, so that "stop" is the
    end of the text."""
    reason = choice.get("finish_reason")
    if reason is None:
        return None
    return "eos" if reason == "stop" else "length"


def pairs(texts: Sequence[Any], values: Sequence[Any], what: str) -> list[tuple[Any, Any]]:
    """Two lists that belong together."""
    if len(texts) != len(values):
        raise fields.unexpected(what)
    return list(zip(texts, values, strict=True))
