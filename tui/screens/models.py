"""Choose an installed model; loads nothing."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from gpt import models
from gpt.sanitize import one_line
from tui.screens.dialog import Dialog


class ModelPicker(Dialog[str | None]):
    """The embedded model and the converted ones; returns the chosen name, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "back", id="models.back"),
    ]

    def __init__(self, current: str, title: str = "Models") -> None:
        super().__init__()
        self._title = title
        self._names = list(found := models.available())
        self._lines = [
            f"{one_line(name):28.28} {manifest.n_params / 1e6:8.1f}M  {one_line(manifest.dtype)}"
            for name, manifest in found.items()
        ]
        self._current = current

    def compose(self) -> ComposeResult:
        """One row for each model."""
        options = OptionList(*(Option(Content(line)) for line in self._lines))
        options.border_title = self._title
        options.border_subtitle = "More: python -m convert NAME"
        if self._current in self._names:
            options.highlighted = self._names.index(self._current)
        yield options

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._names[event.option_index])
