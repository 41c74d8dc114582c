"""A window with fields for texts; it shows the tokens of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input

from gpt.sanitize import one_line
from tui.backend import Backend, BackendError
from tui.inside.wishes import Ask, Typed
from tui.labels import boxes, shortened
from tui.screens.dialog import Dialog
from tui.widgets.field import Field

LINE_BREAK = "⏎"
"""Stands for a line break in a field."""


class FieldsScreen(Dialog[list[Typed] | None]):
    """Enter goes to the next field; in the last one it returns what was typed. Esc: None."""

    CSS = """
    FieldsScreen { align: center middle; }
    FieldsScreen Vertical {
        width: 100;
        max-width: 100%;
        height: auto;
        border: round $border;
        padding: 0 1;
        background: $background;
    }
    FieldsScreen Input { height: 3; border: round $border; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back", id="fields.back"),
        Binding("down", "app.focus_next", "next field", show=False, id="fields.next"),
        Binding("up", "app.focus_previous", "previous field", show=False, id="fields.last"),
    ]

    def __init__(self, backend: Backend, asked: Ask, *, joins_spaces: bool) -> None:
        """asked: title, fields and check. joins_spaces: the model has tokens that start with a
        space."""
        super().__init__()
        self._backend, self._asked, self._joins_spaces = backend, asked, joins_spaces

    def compose(self) -> ComposeResult:
        """The fields."""
        with Vertical() as panel:
            panel.border_title = Content(one_line(self._asked.title))
            panel.border_subtitle = "Enter: next, then done · Esc: back"
            for n, blank in enumerate(self._asked.blanks):
                text = blank.text.replace("\n", LINE_BREAK)
                field = Field(text, compact=True, select_on_focus=False, id=f"field{n}")
                field.border_title = Content(one_line(blank.label))
                yield field

    def on_mount(self) -> None:
        """Begin with the first field."""
        self.fields[0].focus()

    @property
    def fields(self) -> Sequence[Input]:
        """The fields in their order."""
        return list(self.query(Input))

    @on(Input.Changed)
    def _cut(self, event: Input.Changed) -> None:
        self._show_tokens(event.input, event.value)

    @work(group="tokens")
    async def _show_tokens(self, field: Input, value: str) -> None:
        """Show how the model cuts a text, if it is still there."""
        try:
            found = await self._backend.tokens(text_of(value)) if value else None
        except BackendError as error:
            field.border_subtitle = Content(shortened(str(error)))
            return
        if field.value == value:
            parts = found.parts if found else []
            field.border_subtitle = boxes(parts, joins_spaces=self._joins_spaces)

    @on(Input.Submitted)
    def _next(self, event: Input.Submitted) -> None:
        n = self.fields.index(event.input)
        if n + 1 < len(self.fields):
            self.fields[n + 1].focus()
        else:
            self._finish()

    @work(exclusive=True, group="finish")
    async def _finish(self) -> None:
        """Return what was typed, unless something is wrong with it."""
        panel = self.query_one(Vertical)
        try:
            texts = [text_of(field.value) for field in self.fields]
            typed = [
                Typed(text, (await self._backend.tokens(text)).ids if text else ())
                for text in texts
            ]
        except BackendError as error:
            panel.border_subtitle = Content(shortened(str(error)))
            return
        if wrong := self._asked.check(typed):
            panel.border_subtitle = Content(one_line(wrong))
        else:
            self.dismiss(typed)


def text_of(value: str) -> str:
    """What a field stands for."""
    return value.replace(LINE_BREAK, "\n")
