"""Dialogs: choose a saved text, answer a question in one line."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input

from gpt.errors import UserError
from gpt.sanitize import one_line
from tui import store
from tui.labels import sentence
from tui.saved_text import Entry
from tui.screens.dialog import Dialog
from tui.screens.filtered import FilteredList, Row
from tui.widgets.field import Field


class TextPicker(FilteredList[Path]):
    """Saved texts by their first words, newest first. Returns the path of the chosen one.

    A deleted one can be brought back until the window closes.
    """

    TITLE = "Texts"
    FILTER = "Filter by first words or model name"
    KEYS = "Enter: open · Del: delete"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back", id="texts.back"),
        Binding("delete", "delete", "delete", id="texts.delete"),
        Binding("ctrl+z", "undo", "bring back", show=False, id="texts.undo"),
    ]

    def __init__(self, opened: Path | None) -> None:
        """opened: the text on the screen, which cannot be deleted."""
        super().__init__(
            [
                Row(entry.path, _line(entry), f"{entry.title} {entry.model}")
                for entry in store.entries()
            ]
        )
        self._opened = opened
        self._deleted: list[tuple[Path, int, Row[Path]]] = []
        """Its file now, its place in the list and its row, of each deleted text."""

    def action_delete(self) -> None:
        """Delete the highlighted text."""
        if (row := self.highlighted) is None:
            return
        if row.result == self._opened:
            said = "This text is on the screen; Ctrl+N starts another one, then it can be deleted."
            self.notify(said, markup=False)
            return
        try:
            file = store.delete(row.result)
        except UserError as error:
            self.notify(one_line(sentence(str(error))), severity="error", markup=False)
            return
        self._deleted.append((file, self.rows.index(row), row))
        self.rows.remove(row)
        self.fill()
        self.notify("Deleted; Ctrl+Z brings it back while this window is open.", markup=False)

    def action_undo(self) -> None:
        """Bring the text back that was deleted last."""
        if not self._deleted:
            self.notify("Nothing was deleted in this window.", markup=False)
            return
        file, index, row = self._deleted.pop()
        try:
            file.rename(row.result)
        except OSError as error:
            said = f"cannot bring {row.result} back: {error.strerror}"
            self.notify(one_line(sentence(said)), severity="error", markup=False)
            return
        self.rows.insert(index, row)
        self.fill(row)
        self.notify("The text is back.", markup=False)

    def on_unmount(self) -> None:
        """Remove the files of deleted texts."""
        for file, _, _ in self._deleted:
            with suppress(OSError):
                file.unlink()


def _line(entry: Entry) -> str:
    when = entry.saved.astimezone().strftime("%Y-%m-%d %H:%M")
    title = one_line(entry.title)
    title = title if len(title) <= 44 else title[:43] + "…"
    return f"{when}  {entry.n_tokens:5} tokens  {title:44}  {one_line(entry.model)[:20]}"


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
