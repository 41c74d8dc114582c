"""Choose a preset of the sampling settings."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tui.dials import PRESETS, USUAL, Preset
from tui.screens.dialog import Dialog
from tui.widgets.option_rows import OptionRows


class PresetPicker(Dialog[str | None]):
    """A line for each preset; returns the chosen name, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f9", "dismiss(None)", "back", id="presets.back")
    ]

    def __init__(self, current: str | None) -> None:
        super().__init__()
        self._current = current

    def compose(self) -> ComposeResult:
        """The list, with the current preset highlighted, or the usual one."""
        options = OptionRows(*(Option(_line(name, each)) for name, each in PRESETS.items()))
        options.border_title = "Presets of the sampling settings"
        options.border_subtitle = "Enter: use it · Esc: back"
        options.highlighted = list(PRESETS).index(self._current or USUAL)
        yield options

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(list(PRESETS)[event.option_index])


def _line(name: str, preset: Preset) -> Content:
    values = ", ".join(
        f"{dial.replace('_', '-')} {value:g}" for dial, value in preset.values.items()
    )
    return Content.assemble(
        (f"{name:10}", "bold"), f"{values or 'all settings off':28}", preset.tip
    )
