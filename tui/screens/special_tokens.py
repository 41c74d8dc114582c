"""Choose a special token of the model, for the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from textual.binding import Binding, BindingType

from tui.labels import shortened
from tui.screens.filtered import FilteredList, Row

_NAME = 60
"""Cells of a name."""


class SpecialTokenPicker(FilteredList[str]):
    """The special tokens by their names. Returns the chosen name."""

    TITLE = "Insert a special token"
    FILTER = "Filter by name or id"
    KEYS = "Enter: insert"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back", id="special.back")
    ]

    def __init__(self, tokens: Mapping[str, int]) -> None:
        """tokens: name → id."""
        super().__init__(
            [
                Row(name, f"{shortened(name, _NAME):{_NAME}} {i:>8}", name, str(i))
                for name, i in tokens.items()
            ]
        )
