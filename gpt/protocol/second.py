"""A request in ids of the first model, as a second model reads it that is somewhere else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from gpt.protocol import request as requests
from gpt.protocol.request import PathRequest, Request
from gpt.settings import Ids, Sampling


class Decode(Protocol):
    """The text of some ids of the first model."""

    def __call__(self, ids: Sequence[int], *, whole: bool = True) -> str:
        """whole: the ids are a text from its start."""


Encode = Callable[[str], list[int]]
"""Ids of a text."""


def translated(request: Request, text_of: Decode, encode: Encode, encode_more: Encode) -> Request:
    """The same request with the second model's ids in its path and in its settings.

    encode: for a text from its start; encode_more: for one that continues another.
    """
    if not isinstance(request, PathRequest):
        return request
    ids = tuple(encode(text_of(request.ids))) if request.ids else ()
    changed = replace(request, ids=ids)
    if isinstance(changed, requests.Generate | requests.Waterfall):
        sampling = _settings(changed.sampling, text_of, encode_more)
        changed = replace(changed, sampling=sampling)
    return changed


def _settings(sampling: Sampling, text_of: Decode, encode_more: Encode) -> Sampling:
    """Settings with banned and boosted words as ids of the second model."""

    def translated(ids: Ids) -> Ids:
        return tuple(encode_more(text_of(ids, whole=False)))

    boosted = ((translated(ids), nats) for ids, nats in sampling.boosted)
    return replace(
        sampling,
        banned=tuple(filter(None, map(translated, sampling.banned))),
        boosted=tuple((ids, nats) for ids, nats in boosted if ids),
    )
