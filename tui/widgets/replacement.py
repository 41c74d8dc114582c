"""A small field at a token, for what replaces it, or several of them."""

from __future__ import annotations

from typing import ClassVar

from textual import events, on
from textual.binding import Binding, BindingType
from textual.geometry import Offset, Size
from textual.message import Message
from textual.widgets import Input
from textual.widgets.input import Selection

from tui.widgets.field import Field

WIDTH, HEIGHT = 40, 3
"""Cells of the field with its border, as in the style sheet."""


class Replacement(Field):
    """Opens below a token; Enter answers, Esc or another focus closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back", id="replacement.back")
    ]

    class Typed(Message):
        """The person typed what replaces the tokens, or nothing."""

        def __init__(self, text: str, *, keeps_rest: bool) -> None:
            """keeps_rest: as in `ask`."""
            super().__init__()
            self.text, self.keeps_rest = text, keeps_rest

    def __init__(self) -> None:
        super().__init__(
            id="replacement",
            placeholder="Type the replacement",
            compact=True,
            select_on_focus=False,
        )
        self._keeps_rest = False

    def ask(self, cell: Offset, room: Size, text: str, *, keeps_rest: bool) -> None:
        """Open near a cell of a view of this size, with a text whose words are selected.

        A space at its beginning is not selected: tokens of words have one. keeps_rest: whether what
        comes after the tokens stays.
        """
        self._keeps_rest = keeps_rest
        self.border_title = "Change" if keeps_rest else "Replace"
        self.border_subtitle = "Enter: keep the rest" if keeps_rest else "Enter: continue from it"
        self.value = text
        n = len(self.value)
        self.selection = Selection(min(n, len(self.value) - len(self.value.lstrip(" "))), n)
        self.display = True
        x, y = min(cell.x, room.width - WIDTH), cell.y + 1
        if y + HEIGHT > room.height:
            y = cell.y - HEIGHT
        self.styles.offset = (max(0, x), max(0, y))
        self.screen.set_focus(self)  # now: what is typed next belongs here

    @on(Input.Submitted)
    def _answered(self, event: Input.Submitted) -> None:
        event.stop()
        self.display = False
        self.post_message(self.Typed(event.value, keeps_rest=self._keeps_rest))

    def action_leave(self) -> None:
        """Close without an answer."""
        self.display = False
        self.post_message(self.Typed("", keeps_rest=self._keeps_rest))

    def on_blur(self, event: events.Blur) -> None:
        """Close when something else gets the focus."""
        self.display = False
