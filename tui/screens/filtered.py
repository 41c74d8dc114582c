"""A list that typing filters, as a dialog."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Generic, NamedTuple, TypeVar

from textual import getters, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from tui.screens.dialog import Dialog
from tui.widgets.field import Field
from tui.widgets.option_rows import OptionRows

T = TypeVar("T")
MOST = 500
"""Most rows that are shown; the filter finds the others."""


class Row(NamedTuple, Generic[T]):
    """Something that can be chosen."""

    result: T
    line: str
    """What is shown, in characters that are harmless."""
    words: str
    """What the filter looks for its words in."""
    number: str = ""
    """A word that must be typed whole."""

    def answers(self, word: str) -> bool:
        """Whether a word of the filter, in lower case, is in it."""
        return word in self.words.casefold() or word == self.number


class _Filter(Field):
    """Without a letter after its cursor, Delete is a key of the list."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """False leaves a key to the window."""
        if action == "delete_right" and self.cursor_at_end and self.selection.is_empty:
            return False
        return super().check_action(action, parameters)


class FilteredList(Dialog[T | None]):
    """A field above a list. Returns the result of the chosen row, or None."""

    TITLE: ClassVar[str]
    FILTER: ClassVar[str]
    """What an empty field says."""
    KEYS: ClassVar[str]
    """What Enter and other keys do."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "cursor(1)", "next", show=False),
        Binding("up", "cursor(-1)", "previous", show=False),
    ]

    options = getters.query_one(OptionList)

    def __init__(self, rows: Sequence[Row[T]]) -> None:
        super().__init__()
        self.rows = list(rows)
        """All rows, whether they answer the filter or not."""
        self._shown: Sequence[Row[T]] = []
        self._words: list[str] = []
        """The words of the filter that they answer."""

    def compose(self) -> ComposeResult:
        """The field and the list."""
        with Vertical():
            field = _Filter(placeholder=self.FILTER, compact=True)
            field.border_title = self.TITLE
            yield field
            yield OptionRows()

    def on_mount(self) -> None:
        """Show all rows."""
        self.fill()

    @on(Input.Changed)
    def _narrow(self) -> None:
        """Show what answers the filter; also before a key acts that comes before the message."""
        # The screen may be closing.
        if self.query(OptionList) and self._words != self._typed_words:
            self.options.highlighted = None
            self.fill()

    @property
    def _typed_words(self) -> list[str]:
        return self.query_one(Field).value.casefold().split()

    def fill(self, wanted: Row[T] | None = None) -> None:
        """Show the rows that answer the filter, and highlight the wanted one; without one, the
        same place as before."""
        self._words = words = self._typed_words
        found = [row for row in self.rows if all(map(row.answers, words))]
        self._shown = found[:MOST]
        here = found.index(wanted) if wanted in found else self.options.highlighted or 0
        self.options.clear_options()
        self.options.add_options(Option(Content(row.line)) for row in self._shown)
        if not found:
            said = "Nothing contains these words" if words else "Nothing here yet"
            self.options.add_option(Option(said, disabled=True))
        self.options.highlighted = min(here, len(self._shown) - 1) if self._shown else None
        count = f"{len(found)} of {len(self.rows)}"
        if len(found) > MOST:
            count = f"the first {MOST} of {len(found)}"
        self.options.border_subtitle = f"{count} · {self.KEYS} · Esc: back"

    @property
    def highlighted(self) -> Row[T] | None:
        """The highlighted row; None if no row answers the filter."""
        self._narrow()
        index = self.options.highlighted
        return None if index is None else self._shown[index]

    def action_cursor(self, by: int) -> None:
        """Move in the list while the field has the focus."""
        self._narrow()
        if self._shown:
            here = self.options.highlighted or 0
            self.options.highlighted = max(0, min(len(self._shown) - 1, here + by))

    @on(Input.Submitted)
    def _take(self) -> None:
        if (row := self.highlighted) is not None:
            self.dismiss(row.result)

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        if event.option_index < len(self._shown):  # a key may have narrowed it since
            self.dismiss(self._shown[event.option_index].result)
