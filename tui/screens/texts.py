"""Dialogs: choose a saved text, answer a question in one line."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import ClassVar

from textual import getters, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from gpt.sanitize import one_line
from tui import store
from tui.screens.dialog import Dialog
from tui.store import Entry
from tui.widgets.field import Field


class TextPicker(Dialog[Path | None]):
    """Saved texts by their first words, newest first; typing filters the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back", id="texts.back"),
        Binding("down", "cursor(1)", "next", show=False),
        Binding("up", "cursor(-1)", "previous", show=False),
    ]

    options = getters.query_one(OptionList)

    def __init__(self) -> None:
        super().__init__()
        self._all = store.entries()
        self._shown = self._all

    def compose(self) -> ComposeResult:
        """A field above a list."""
        with Vertical():
            field = Field(placeholder="Filter by first words or model name", compact=True)
            field.border_title = "Texts"
            yield field
            yield OptionList()

    def on_mount(self) -> None:
        """Show all texts."""
        self._fill("")

    @on(Input.Changed)
    def _narrow(self, event: Input.Changed) -> None:
        self._fill(event.value)

    def _fill(self, wanted: str) -> None:
        words = wanted.casefold().split()
        self._shown = [
            entry
            for entry in self._all
            if all(word in f"{entry.title} {entry.model}".casefold() for word in words)
        ]
        self.options.clear_options()
        self.options.add_options(Option(Content(_line(entry))) for entry in self._shown)
        self.options.highlighted = 0 if self._shown else None
        self.options.border_subtitle = (
            f"{len(self._shown)} of {len(self._all)} · Enter: open · Esc: back"
        )

    def action_cursor(self, by: int) -> None:
        """Move in the list while the field has the focus."""
        if self._shown:
            here = self.options.highlighted or 0
            self.options.highlighted = max(0, min(len(self._shown) - 1, here + by))

    @on(Input.Submitted)
    def _take(self) -> None:
        index = self.options.highlighted
        if index is not None:
            self.dismiss(self._shown[index].path)

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._shown[event.option_index].path)


def _line(entry: Entry) -> str:
    when = entry.saved.astimezone().strftime("%Y-%m-%d %H:%M")
    title = one_line(entry.title)
    title = title if len(title) <= 44 else title[:43] + "…"
    return f"{when}  {title:44}  {entry.n_tokens:5} tokens  {one_line(entry.model)[:20]}"


class Question(Dialog[str | None]):
    """Returns the line that the person typed, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back", id="question.back")
    ]

    def __init__(self, title: str, hint: str, answer: str) -> None:
        super().__init__()
        self._title, self._hint, self._answer = title, hint, answer

    def compose(self) -> ComposeResult:
        """One field."""
        field = Field(self._answer, compact=True)  # selected, so typing replaces it
        field.border_title = Content(self._title)
        field.border_subtitle = Content(self._hint)
        yield field

    @on(Input.Submitted)
    def _answered(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)


def free_name() -> str:
    """A name for an export, unique to the second."""
    return f"text-{datetime.now().astimezone():%Y-%m-%d-%H%M%S}.html"
