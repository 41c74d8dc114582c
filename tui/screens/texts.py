"""Dialogs: choose a saved text, answer a question in one line."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input

from gpt.sanitize import one_line
from tui import store
from tui.screens.dialog import Dialog
from tui.screens.filtered import FilteredList, Row
from tui.store import Entry
from tui.widgets.field import Field


class TextPicker(FilteredList[Path]):
    """Saved texts by their first words, newest first. Returns the path of the chosen one."""

    TITLE = "Texts"
    FILTER = "Filter by first words or model name"
    ENTER = "open"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back", id="texts.back")
    ]

    def __init__(self) -> None:
        super().__init__(
            [
                Row(entry.path, _line(entry), f"{entry.title} {entry.model}")
                for entry in store.entries()
            ]
        )


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
