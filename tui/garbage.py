"""When Python's garbage collector runs; no other module of the interface calls gc."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

SETTLE_EVERY = 1.0
"""Seconds between two calls that have an effect."""


def pause() -> None:
    """Stop until the first frame: a collection while modules load only delays it."""
    gc.disable()


def resume() -> None:
    """Run again after the first frame."""
    gc.enable()


class Settler:
    """Hides the tokens of a text from the garbage collector.

    They live as long as their text, and a pass over 100,000 of them stops the screen for half a
    second.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._settled = -SETTLE_EVERY

    def settle(self) -> None:
        """Call this after adding tokens: at most once a second it freezes all living objects."""
        now = self._clock()
        if now - self._settled > SETTLE_EVERY:
            gc.collect(1)  # young objects may be garbage
            gc.freeze()
            self._settled = now
