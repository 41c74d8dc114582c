"""Aligns two models' tokens of one text, whatever their vocabularies; no widgets, no model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gpt.step import Step


class Span(NamedTuple):
    """The shortest stretch of text that consists of whole tokens of both models."""

    own: range
    """Indices of the first model's tokens."""
    other: range
    """Indices of the second model's tokens."""
    text: bytes
    own_nats: float | None
    """Surprisal of the stretch; None if it has no text, or holds the first token."""
    other_nats: float | None

    @property
    def gap(self) -> float | None:
        """Difference of the surprisals in bits: 3 means a factor of 8 in probability."""
        if self.own_nats is None or self.other_nats is None:
            return None
        return (self.own_nats - self.other_nats) / math.log(2)


def align(own: Sequence[Step], other: Sequence[Step]) -> list[Span]:
    """The stretches in order; every token of both models is in exactly one."""
    ends, others = _ends(own), _ends(other)
    spans, i, j = list[Span](), 0, 0
    while i < len(own) or j < len(other):
        first, start = i, j
        i, j = min(i + 1, len(own)), min(j + 1, len(other))
        while ends[i] != others[j]:
            if i < len(own) and (ends[i] < others[j] or j == len(other)):
                i += 1
            elif j < len(other):
                j += 1
            else:
                break
        text = b"".join(step.added for step in own[first:i])
        spans.append(
            Span(range(first, i), range(start, j), text, _nats(own[first:i]), _nats(other[start:j]))
        )
    return spans


def bits_per_character(spans: Iterable[Span]) -> tuple[float, float] | None:
    """Bits per character of both models, over the stretches that both have numbers for.

    None if there is no such stretch.
    """
    known = [
        (span.own_nats, span.other_nats, span.text)
        for span in spans
        if span.own_nats is not None and span.other_nats is not None
    ]
    characters = len(b"".join(text for *_, text in known).decode("utf-8", "replace"))
    if not characters:
        return None
    unit = math.log(2) * characters
    own, other = math.fsum(a for a, _, _ in known), math.fsum(b for _, b, _ in known)
    return own / unit, other / unit


def _ends(steps: Sequence[Step]) -> list[int]:
    """Byte offsets: 0, then the end of each token."""
    ends = [0]
    for step in steps:
        ends.append(ends[-1] + len(step.added))
    return ends


def _nats(steps: Iterable[Step]) -> float | None:
    logprobs = [step.logprob for step in steps if step.bytes]
    known = [logprob for logprob in logprobs if logprob is not None]
    return -math.fsum(known) if known and len(known) == len(logprobs) else None
