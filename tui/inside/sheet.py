"""What a view of the inside is drawn from: rows of cells, and how they look; no widgets."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.segment import Segment
from rich.style import Style

from tui.palette import Palette

Row = list[Segment]


@dataclass(frozen=True)
class Looks:
    """Size in cells, and styles."""

    width: int
    height: int
    plain: Style
    faint: Style
    """Headings, and what is less important."""
    more: Style
    """Bars of positive numbers."""
    less: Style
    """Bars of negative numbers."""
    top: Style
    """What stands out."""
    here: Style
    """What is chosen."""
    palette: Palette = field(compare=False)


@dataclass
class Sheet:
    """Rows of a view: those of the body scroll if they are too many."""

    head: list[Row] = field(default_factory=list)
    body: list[Row] = field(default_factory=list)
    foot: list[Row] = field(default_factory=list)
    side: list[Row] = field(default_factory=list)
    """To the right of all of these; does not scroll."""
    side_at: int = 0
    """The column where it begins."""
    at: int | None = None
    """Index of the row of the body that must be visible."""
