"""Shows a letter on every widget that can have the focus."""

from __future__ import annotations

from string import ascii_lowercase
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.errors import NoWidget
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Label

from tui.screens.dialog import Dialog
from tui.widgets.prompt import Prompt


class JumpScreen(Dialog[Widget | None]):
    """Returns the widget whose letter is pressed, or None for any other key.

    The prompt has always the same letter, the first.
    """

    def __init__(self, below: Screen[Any]) -> None:
        super().__init__()
        parts = [part for part in below.focus_chain if _is_in_view(part)]
        first = [part for part in parts if isinstance(part, Prompt)]
        others = [part for part in parts if part not in first]
        self._parts = dict(zip(ascii_lowercase, (*first, *others), strict=False))

    def compose(self) -> ComposeResult:
        """A letter at the corner of each widget, and below what to do."""
        for letter, part in self._parts.items():
            label = Label(Content(f" {letter} "))
            label.styles.offset = part.region.offset
            yield label
        yield Label(" Press a letter to go there; any other key goes back.", id="hint")

    def on_key(self, event: events.Key) -> None:
        """Every key closes the screen."""
        event.stop()
        self.dismiss(self._parts.get(event.key))


def _is_in_view(part: Widget) -> bool:
    """Whether the corner of a widget, where its letter stands, is neither scrolled out of view nor
    covered by a line that does not scroll."""
    region = part.region
    frames = [each for each in part.ancestors if isinstance(each, Widget)]
    if not region.area or not all(f.content_region.contains(*region.offset) for f in frames):
        return False
    try:
        found, _ = part.screen.get_widget_at(*region.offset)
    except NoWidget:
        return False
    # A message over everything goes away; what covers it in its own panel does not.
    covers = found.parent in frames and found.parent is not part.screen
    return part in found.ancestors_with_self or not covers
