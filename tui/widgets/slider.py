"""A slider for the mouse; the field next to it has the keys."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from tui.dials import Knob

NOTCHES = 20
"""Number of steps from one end to the other."""


class Slider(Widget):
    """Shows where a setting lies between the ends of its range."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"slider--knob", "slider--rail"}

    value: reactive[float | None] = reactive(None)
    """None if the field holds no number."""
    former: reactive[float | None] = reactive(None)
    """The value that the selected token was sampled with."""

    class Moved(Message):
        """The mouse chose another value."""

        def __init__(self, slider: Slider, value: float) -> None:
            super().__init__()
            self.slider = slider
            self.value = value

    def __init__(self, knob: Knob, *, id: str, classes: str = "") -> None:
        super().__init__(id=id, classes=classes)
        self.knob = knob
        self.tooltip = knob.tip

    @property
    def _ends(self) -> tuple[float, float]:
        return self.knob.ends or (0, 1)

    def _cell(self, value: float) -> int:
        """The cell of a value; one outside the range lies at its end."""
        low, high = self._ends
        share = (value - low) / (high - low)
        return round(min(1.0, max(0.0, share)) * (self.size.width - 1))

    def render(self) -> Text:
        """A rail, a ring for the former value, and a knob; off the rail, an arrow."""
        rail = self.get_component_rich_style("slider--rail", partial=True)
        knob = self.get_component_rich_style("slider--knob", partial=True)
        text = Text("─" * self.size.width, rail)
        if self.former is not None and self.former != self.value:
            text = _put(text, self._cell(self.former), Text("○", rail))
        if self.value is not None:
            cell = self._cell(self.value)
            text.stylize(knob, 0, cell)
            low, high = self._ends
            sign = "▶" if self.value > high else "◀" if self.value < low else "●"
            text = _put(text, cell, Text(sign, knob))
        return text

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Move the knob there, and follow the mouse."""
        self.capture_mouse()
        self._move_to(event.x)

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Follow the mouse while its button is down."""
        if self.app.mouse_captured is self:
            self._move_to(event.x)

    def on_mouse_up(self) -> None:
        """Let go."""
        self.release_mouse()

    def _move_to(self, x: int) -> None:
        low, high = self._ends
        notch = round(x / max(1, self.size.width - 1) * NOTCHES)
        value = low + (high - low) * min(NOTCHES, max(0, notch)) / NOTCHES
        if value != self.value:
            self.post_message(self.Moved(self, round(value, 6)))


def _put(text: Text, cell: int, sign: Text) -> Text:
    return text[:cell] + sign + text[cell + 1 :]
