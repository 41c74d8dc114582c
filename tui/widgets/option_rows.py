"""Textual's list of options, for rows that may change between a frame and a click."""

from __future__ import annotations

from textual import events
from textual.widgets import OptionList


class OptionRows(OptionList):
    """A list that ignores a click on a row which is no longer there."""

    def _on_click(self, event: events.Click) -> None:  # type: ignore[override]
        """Textual calls this before its own answer, which would end the program."""
        row = event.style.meta.get("option")
        if row is not None and row >= self.option_count:
            event.prevent_default()
