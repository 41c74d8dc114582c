"""Speed, delay and perplexity during a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gpt.step import Step
from tui.document import Document
from tui.measure import perplexity


@dataclass
class Figures:
    """Numbers of the current run, or of the previous one."""

    speed: float | None = None
    """Tokens per second."""
    first: float | None = None
    """Seconds from the request to the first token; None if the model was still loading."""
    perplexity: float | None = None
    """Perplexity of the sampled tokens of the path, up to the newest one."""


class Tally:
    """Updates the figures with each token of one run."""

    def __init__(
        self, figures: Figures, document: Document, begun: float, *, was_ready: bool
    ) -> None:
        """begun: time of the request, in seconds. was_ready: the model was loaded by then."""
        self._figures = figures
        self._was_ready = was_ready
        self._begun = begun
        self._first: float | None = None
        self._drawn = 0
        nats, n_tokens, is_of_drawn = document.surprisal()
        self._nats, self._known = (nats, n_tokens) if is_of_drawn else (0.0, 0)

    def add(self, steps: Sequence[Step], now: float, *, on_path: bool = True) -> bool:
        """Count sampled tokens; returns whether they are the first ones of the run.

        on_path: they are on the path; else they only count for the speed.
        """
        shown = steps if on_path else ()
        logprobs = [step.logprob for step in shown if step.logprob is not None]
        self._nats, self._known = self._nats - math.fsum(logprobs), self._known + len(logprobs)
        self._figures.perplexity = perplexity(self._nats, self._known)
        if self._first is None:
            self._first = now
            self._figures.first = now - self._begun if self._was_ready else None
            return True
        self._drawn += len(steps)
        if now > self._first:
            self._figures.speed = self._drawn / (now - self._first)
        return False
