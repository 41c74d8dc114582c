"""Who waits for a long computation: may cancel it, and is told how far it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


def _never() -> bool:
    return False


def _silent(message: str) -> None:
    pass


@dataclass(frozen=True)
class Watcher:
    """Who waits for a long computation."""

    cancelled: Callable[[], bool] = _never
    """Whether to stop soon; called often."""
    tell: Callable[[str], object] = _silent
    """Receives a few words that say how far the computation is; called often."""


NOBODY = Watcher()
"""The default: nobody waits."""
