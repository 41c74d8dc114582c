"""The rows of the sampling settings: label, slider and field; no document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Button, Label

from tui.dials import MORE, STAGES, Knob
from tui.widgets.dial import Dial
from tui.widgets.slider import Slider


def rows(knobs: Iterable[Knob], *, classes: str = "") -> ComposeResult:
    """The label, the slider and the field of each setting."""
    for knob in knobs:
        label = Content(knob.label).stylize(f"@click=app.help({knob.label!r})")
        yield Label(label, id=f"label_{knob.name}", classes=classes)
        if knob.ends:
            yield Slider(knob, id=f"slide_{knob.name}", classes=classes)
        yield Dial(knob, classes=classes)


def more_rows(texts: Mapping[str, str], order: tuple[str, ...]) -> ComposeResult:
    """The settings that few people need, with what their fields hold, and their order."""
    yield from rows((knob._replace(value=texts[knob.name]) for knob in MORE), classes="more")
    yield Label(Content("order").stylize("@click=screen.order"), classes="more")
    tip = "which setting acts first; Enter changes it"
    yield Button(
        said(order), id="order", classes="more", compact=True, tooltip=tip, action="screen.order"
    )


def said(order: tuple[str, ...]) -> Content:
    """The names of the settings in their order."""
    return Content(", ".join(STAGES[name] for name in order) or "the usual one")
