"""Choose a special token of the model, for the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual import getters, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from gpt.sanitize import one_line
from tui.labels import shortened
from tui.screens.dialog import Dialog
from tui.widgets.field import Field

MOST = 500
"""Most tokens in the list; some models have hundreds of thousands, and a filter finds the others.
"""
_NAME = 60


class SpecialTokenPicker(Dialog[str | None]):
    """The special tokens by their names; typing filters the list. Returns the chosen name."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back", id="special.back"),
        Binding("down", "cursor(1)", "next", show=False),
        Binding("up", "cursor(-1)", "previous", show=False),
    ]

    options = getters.query_one(OptionList)

    def __init__(self, tokens: Mapping[str, int]) -> None:
        """tokens: name → id."""
        super().__init__()
        self._tokens = tokens
        self._shown: list[str] = []

    def compose(self) -> ComposeResult:
        """A field above a list."""
        with Vertical():
            field = Field(placeholder="Filter by name or id", compact=True)
            field.border_title = "Insert a special token"
            yield field
            yield OptionList()

    def on_mount(self) -> None:
        """Show all tokens."""
        self._fill("")

    @on(Input.Changed)
    def _narrow(self, event: Input.Changed) -> None:
        self._fill(event.value)

    def _fill(self, wanted: str) -> None:
        words = wanted.casefold().split()
        found = [
            name
            for name, i in self._tokens.items()
            if all(word in name.casefold() or word == str(i) for word in words)
        ]
        self._shown = found[:MOST]
        self.options.clear_options()
        self.options.add_options(
            Option(Content(f"{shortened(name, _NAME):{_NAME}} {self._tokens[name]:>8}"))
            for name in self._shown
        )
        self.options.highlighted = 0 if self._shown else None
        said = f"{len(found)} of {len(self._tokens)}"
        self.options.border_subtitle = one_line(f"{said} · Enter: insert · Esc: back")

    def action_cursor(self, by: int) -> None:
        """Move in the list while the field has the focus."""
        if self._shown:
            here = self.options.highlighted or 0
            self.options.highlighted = max(0, min(len(self._shown) - 1, here + by))

    @on(Input.Submitted)
    def _take(self) -> None:
        if (index := self.options.highlighted) is not None:
            self.dismiss(self._shown[index])

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._shown[event.option_index])
