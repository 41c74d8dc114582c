"""Choose a model; it knows which there are and loads none."""

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
    """The embedded model and those of the user; gives the chosen name, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "back", id="models.back"),
    ]

    def __init__(self, current: str, title: str = "models") -> None:
        super().__init__()
        self._title = title
        self._names = list(found := models.available())
        self._lines = [
            f"{one_line(name):28.28} {manifest.n_params / 1e6:8.1f}M  {one_line(manifest.dtype)}"
            for name, manifest in found.items()
        ]
        self._current = current

    def compose(self) -> ComposeResult:
        """One row a model."""
        options = OptionList(*(Option(Content(line)) for line in self._lines))
        options.border_title = self._title
        options.border_subtitle = "python -m convert NAME gets more"
        if self._current in self._names:
            options.highlighted = self._names.index(self._current)
        yield options

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._names[event.option_index])
