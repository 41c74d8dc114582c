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


class FilteredList(Dialog[T | None]):
    """A field above a list. Returns the result of the chosen row, or None."""

    TITLE: ClassVar[str]
    FILTER: ClassVar[str]
    """What an empty field says."""
    ENTER: ClassVar[str]
    """What Enter does."""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "cursor(1)", "next", show=False),
        Binding("up", "cursor(-1)", "previous", show=False),
    ]

    options = getters.query_one(OptionList)

    def __init__(self, rows: Sequence[Row[T]]) -> None:
        super().__init__()
        self._rows = rows
        self._shown: Sequence[Row[T]] = []

    def compose(self) -> ComposeResult:
        """The field and the list."""
        with Vertical():
            field = Field(placeholder=self.FILTER, compact=True)
            field.border_title = self.TITLE
            yield field
            yield OptionList()

    def on_mount(self) -> None:
        """Show all rows."""
        self._fill("")

    @on(Input.Changed)
    def _narrow(self, event: Input.Changed) -> None:
        self._fill(event.value)

    def _fill(self, wanted: str) -> None:
        words = wanted.casefold().split()
        found = [row for row in self._rows if all(map(row.answers, words))]
        self._shown = found[:MOST]
        self.options.clear_options()
        self.options.add_options(Option(Content(row.line)) for row in self._shown)
        self.options.highlighted = 0 if self._shown else None
        count = f"{len(found)} of {len(self._rows)}"
        if len(found) > MOST:
            count = f"the first {MOST} of {len(found)}"
        self.options.border_subtitle = f"{count} · Enter: {self.ENTER} · Esc: back"

    def action_cursor(self, by: int) -> None:
        """Move in the list while the field has the focus."""
        if self._shown:
            here = self.options.highlighted or 0
            self.options.highlighted = max(0, min(len(self._shown) - 1, here + by))

    @on(Input.Submitted)
    def _take(self) -> None:
        if (index := self.options.highlighted) is not None:
            self.dismiss(self._shown[index].result)

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._shown[event.option_index].result)
