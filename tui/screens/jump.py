"""Shows a letter on every widget that can have the focus."""

from __future__ import annotations

from string import ascii_lowercase
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Label

from tui.screens.dialog import Dialog


class JumpScreen(Dialog[Widget | None]):
    """Returns the widget whose letter is pressed, or None for any other key."""

    def __init__(self, below: Screen[Any]) -> None:
        super().__init__()
        parts = [part for part in below.focus_chain if part.region.size.area]
        self._parts = dict(zip(ascii_lowercase, parts, strict=False))

    def compose(self) -> ComposeResult:
        """A letter at the corner of each widget."""
        for letter, part in self._parts.items():
            label = Label(Content(f" {letter} "))
            label.styles.offset = part.region.offset
            yield label

    def on_key(self, event: events.Key) -> None:
        """Every key closes the screen."""
        event.stop()
        self.dismiss(self._parts.get(event.key))
