"""The server whose model runs: what it can answer, and its other models; asks nothing itself."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from textual import getters, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button, OptionList
from textual.widgets.option_list import Option

from gpt.sanitize import one_line
from tui.backend import Loaded
from tui.labels import shortened
from tui.screens.dialog import Dialog
from tui.screens.models import CardView
from tui.server_card import server_card
from tui.widgets.option_rows import OptionRows

_NAME = 60
"""Most characters of a model's name in the list."""


class Wish(NamedTuple):
    """What the person chose."""

    what: Literal["model", "probe", "others"]
    model: str = ""
    """The server's name for a model."""


class ServerScreen(Dialog[Wish | None]):
    """Facts above the list of the server's models."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "back", id="server.back"),
        Binding("enter", "choose", "load", id="server.load"),
        Binding("p", "wish('probe')", "probe again", id="server.probe"),
        Binding("m", "wish('others')", "other models", id="server.others"),
    ]
    CSS = """
    ServerScreen { align: center middle; }
    ServerScreen #server {
        width: 96;
        max-width: 100%;
        height: 94%;
        max-height: 28;
        border: round $border;
        background: $background;
        padding: 0 1;
    }
    ServerScreen #card { height: 1fr; scrollbar-size-vertical: 1; }
    ServerScreen #facts { height: auto; }
    ServerScreen #list {
        height: auto;
        max-height: 30%;
        border: none;
        border-top: solid $foreground 25%;
        background: $background;
        padding: 0;
    }
    ServerScreen #buttons { height: 1; align-horizontal: right; }
    ServerScreen #buttons Button { margin: 0 0 0 2; }
    """

    options = getters.query_one("#list", OptionList)

    def __init__(self, loaded: Loaded) -> None:
        super().__init__()
        self._loaded = loaded
        self._models = loaded.capabilities.models or (loaded.name,)

    def compose(self) -> ComposeResult:
        """The card, the models, and what to press."""
        options = OptionRows(*(Option(Content(self._line(name))) for name in self._models))
        options.id = "list"
        if self._loaded.name in self._models:
            options.highlighted = self._models.index(self._loaded.name)
        with Vertical(id="server") as frame:
            frame.border_title = "Server"
            with VerticalScroll(id="card"):
                yield CardView(id="facts")
            yield options
            with Horizontal(id="buttons"):
                yield Button("Load (Enter)", id="load", compact=True)
                yield Button("Probe again (p)", id="probe", compact=True)
                yield Button("Other models (m)", id="others", compact=True)
                yield Button("Back (Esc)", id="back", compact=True)

    def on_mount(self) -> None:
        """Show the card, and draw it again in the colours of another theme."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self.call_later(self._show))
        self.options.focus()
        self._show()

    def _show(self) -> None:
        self.query_one(CardView).show(server_card(self._loaded))

    def _line(self, name: str) -> str:
        mark = "▸" if name == self._loaded.name else " "
        return f"{mark} {shortened(one_line(name), _NAME)}"

    @on(OptionList.OptionSelected)
    @on(Button.Pressed, "#load")
    def action_choose(self) -> None:
        """Return the highlighted model."""
        if self.options.highlighted is not None:
            self.dismiss(Wish("model", self._models[self.options.highlighted]))

    def action_wish(self, what: Literal["probe", "others"]) -> None:
        """Return another wish."""
        self.dismiss(Wish(what))

    @on(Button.Pressed, "#probe, #others")
    def _pressed(self, event: Button.Pressed) -> None:
        self.action_wish("probe" if event.button.id == "probe" else "others")

    @on(Button.Pressed, "#back")
    def _back(self) -> None:
        self.dismiss(None)
