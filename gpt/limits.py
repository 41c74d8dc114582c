"""When drawing ends; without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """When drawing ends, apart from the tokens that end a text."""

    max_new_tokens: int = 200
    stop: Sequence[str] = ()
    """Strings that end the text once they are complete; they stay in it."""
    slide: bool = False
    """Whether to continue past the block size with a window over the end of the text."""
