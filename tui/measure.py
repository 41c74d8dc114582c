"""How surprising each line of a text was; no widgets, no model."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from gpt.step import Step


class Measure(NamedTuple):
    """The model's own numbers over some tokens; the first token of a text does not count."""

    first: int
    """Index of the first token."""
    text: str
    n_tokens: int
    n_bytes: int
    nats: float

    @property
    def bits(self) -> float:
        """Total surprisal: nats / ln 2."""
        return self.nats / math.log(2)

    @property
    def bits_per_byte(self) -> float | None:
        """bits / bytes of UTF-8; comparable between any two models."""
        return self.bits / self.n_bytes if self.n_bytes else None

    @property
    def perplexity(self) -> float | None:
        """exp(nats / tokens)."""
        return perplexity(self.nats, self.n_tokens)


def perplexity(nats: float, n_tokens: int) -> float | None:
    """exp(nats / tokens); None without tokens."""
    return math.exp(min(700.0, nats / n_tokens)) if n_tokens else None


def measure(steps: Sequence[Step], first: int = 0) -> Measure:
    """The measure of these tokens; first: index of the first one."""
    known = [(step.logprob, len(step.added)) for step in steps if step.logprob is not None]
    return Measure(
        first,
        b"".join(step.added for step in steps).decode("utf-8", "replace"),
        len(known),
        sum(n for _, n in known),
        -math.fsum(logprob for logprob, _ in known),
    )


def by_line(steps: Iterable[Step]) -> list[Measure]:
    """The measure of each line; a token belongs to the line in which it starts."""
    lines: list[list[Step]] = [[]]
    starts = [0]
    for i, step in enumerate(steps):
        lines[-1].append(step)
        if b"\n" in step.bytes:
            lines.append([])
            starts.append(i + 1)
    found = [measure(line, first) for line, first in zip(lines, starts, strict=True)]
    return found if lines[-1] else found[:-1]


def find(steps: Sequence[Step], wanted: str) -> list[int]:
    """Indices of the tokens in which the matches of a search start; upper and lower case match."""
    starts, text = [], ""
    for step in steps:
        starts.append(len(text))
        text += step.text.lower()
    found, at = list[int](), -1
    while (at := text.find(wanted.lower(), at + 1)) >= 0:
        found.append(bisect_right(starts, at) - 1)
    return found
