"""Bars of block characters; no widgets."""

from __future__ import annotations

from collections.abc import Iterable

from rich.style import Style
from rich.text import Text

_EIGHTHS = " ▏▎▍▌▋▊▉"
FULL = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Probabilities that a full bar may stand for."""


def full_bar(probabilities: Iterable[float | None]) -> float:
    """The least of FULL that holds all of these; None is left out."""
    most = max((p for p in probabilities if p is not None), default=1.0)
    return next((p for p in FULL if p >= most), 1.0)


def bar(
    share: float, cells: int, style: Style, before: float | None = None, ghost: Style | None = None
) -> Text:
    """A bar of so many cells, a share of which is filled, to an eighth of a cell.

    before: the share that it had; a shaded end shows what was lost, a notch where it ended.
    """
    whole, eighth = divmod(round(min(1.0, max(0.0, share)) * cells * 8), 8)
    drawn = "█" * whole + (_EIGHTHS[eighth] if eighth else "")
    text = Text(drawn.ljust(cells), style)
    if before is None:
        return text
    end = round(min(1.0, max(0.0, before)) * cells)
    if end > len(drawn):
        shadow = Text("░" * (end - len(drawn)), ghost or "dim")
        return text[: len(drawn)] + shadow + text[end:]
    if 0 < end < whole:
        return text[: end - 1] + Text("▏", style + Style(reverse=True)) + text[end:]
    return text
