"""Choose an installed model by its card; loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual import events, getters, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button, OptionList, Static
from textual.widgets.option_list import Option

from gpt import models
from gpt.errors import UserError
from gpt.known_models import KNOWN, size
from gpt.sanitize import one_line
from tui.bars import bar
from tui.labels import fit, percent
from tui.model_card import Card, card, known_card, short_count
from tui.screens.dialog import Dialog
from tui.server_card import named_card
from tui.servers import Server
from tui.widgets.option_rows import OptionRows

_NAME, _COUNT = 18, 9
"""Cells of the name and of the number of parameters in the list."""
_LABEL, _BAR = 13, 12
"""Cells of the label of a fact, and of the bar of a part of the network."""


class ModelList(OptionRows):
    """A first click shows a model's card, a second one chooses it."""

    def on_click(self, event: events.Click) -> None:
        """Only highlight what was not highlighted."""
        index = event.style.meta.get("option")
        if index is not None and index != self.highlighted:
            self.highlighted = index
            event.prevent_default()  # OptionList would choose it at once


class CardView(Static):
    """The facts about a model; below the number of parameters, a bar for each part."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"card--label", "card--bar"}
    DEFAULT_CSS = """
    CardView > .card--label { color: $text-muted; }
    CardView > .card--bar { color: $primary; }
    """

    def show(self, shown: Card) -> None:
        """Show a card in the colours of the theme."""
        label, bars = map(self.get_component_rich_style, ("card--label", "card--bar"))
        table = Table.grid(padding=(0, 1, 0, 0), expand=True)
        table.add_column(no_wrap=True, width=_LABEL)
        table.add_column(ratio=1, overflow="fold")
        table.add_row(Text("Model", label), Text(shown.name, "bold"))
        total = sum(n for _, n in shown.parts)
        for what, value in shown.facts:
            table.add_row(Text(what, label), Text(value))
            if what == "Parameters":
                for part, n in shown.parts:
                    line = Text().append_text(bar(n / total, _BAR, bars))
                    line.append(f" {short_count(n):>9}  {percent(n / total):>7}")
                    table.add_row(Text(f" {part}", label), line)
        self.update(table)


class ModelPicker(Dialog[str | None]):
    """The embedded model and the converted ones; returns the chosen name, or None."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (96, "-wide")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "back", id="models.back"),
        Binding("enter", "choose", "load", id="models.load"),
    ]
    CSS = """
    ModelPicker { align: center middle; }
    ModelPicker #models {
        width: 110;
        max-width: 100%;
        height: 94%;
        max-height: 32;
        border: round $border;
        background: $background;
        padding: 0 1;
    }
    ModelPicker #both { height: 1fr; }
    ModelPicker #list {
        width: 33;
        max-width: 100%;
        height: 1fr;
        max-height: 100%;
        border: none;
        background: $background;
        padding: 0;
    }
    ModelPicker #card { height: 1fr; scrollbar-size-vertical: 1; }
    ModelPicker.-wide #both { layout: horizontal; }
    ModelPicker.-wide #card {
        width: 1fr;
        border-left: solid $foreground 25%;
        padding: 0 0 0 1;
    }
    ModelPicker.-wide #card:focus { border-left: solid $border; }
    ModelPicker.-narrow #both { layout: vertical; }
    ModelPicker.-narrow #list { width: 100%; height: auto; max-height: 40%; }
    ModelPicker.-narrow #card { border-top: solid $foreground 25%; }
    ModelPicker.-narrow #card:focus { border-top: solid $border; }
    ModelPicker #facts { height: auto; }
    ModelPicker #buttons { height: 1; align-horizontal: right; }
    ModelPicker #buttons Button { margin: 0 0 0 2; }
    """

    options = getters.query_one("#list", ModelList)

    def __init__(
        self,
        current: str,
        title: str = "Models",
        servers: Mapping[str, Server] | None = None,
        others: Sequence[str] = (),
        *,
        is_second: bool = False,
    ) -> None:
        """servers: name in settings.toml → a server; they come after the models. others: models
        that may be in other places. is_second: another model than the current one is wanted."""
        super().__init__()
        self._title, self._is_second = title, is_second
        self._manifests = models.available()
        names = {models.find(name).resolve(): name for name in self._manifests}
        self._current = current
        for other in others:
            with suppress(UserError):
                directory = models.find(other).resolve()
                if directory not in names:
                    self._manifests[other] = models.read_manifest(directory)
                name = names.setdefault(directory, other)
                self._current = name if other == current else self._current
        self._cards = {f"@{name}": named_card(name, s) for name, s in (servers or {}).items()}
        self._known = {known.name: known for known in KNOWN if known.name not in self._manifests}
        here = [*self._manifests, *self._cards]
        self._names = [*here, *self._known]
        self._n_here = len(here)
        self._cards |= {name: known_card(known) for name, known in self._known.items()}

    def compose(self) -> ComposeResult:
        """The list, the card of the highlighted model, and what to press."""
        lines = [Option(Content(self._line(name))) for name in self._names]
        here, known = lines[: self._n_here], lines[self._n_here :]
        here_names = self._names[: self._n_here]
        options = ModelList(*here, *([None] if known else []), *known, id="list")
        if self._names:
            wanted = [name for name in here_names if (name != self._current) == self._is_second]
            options.highlighted = self._names.index(wanted[0]) if wanted else 0
        with Vertical(id="models") as frame:
            frame.border_title = Content(one_line(self._title))
            frame.border_subtitle = "↓ not downloaded yet · more: python -m convert NAME"
            with Container(id="both"):
                yield options
                with VerticalScroll(id="card"):
                    yield CardView(id="facts")
            with Horizontal(id="buttons"):
                yield Button("Load (Enter)", id="load", compact=True, disabled=not self._names)
                yield Button("Back (Esc)", id="back", compact=True)

    def on_mount(self) -> None:
        """Show the first card, and draw it again in the colours of another theme."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self.call_later(self._show))
        self.options.focus()
        self._show()

    def _line(self, name: str) -> str:
        mark = "▸" if name == self._current else " "
        if name in self._known:
            return f"{mark} {fit(name, _NAME)} {'↓ ' + size(self._known[name].n_bytes):>{_COUNT}}"
        is_own = name in self._manifests
        count = short_count(self._manifests[name].n_params) if is_own else "server"
        # Of a path, its end tells models apart.
        short = Path(name).name if is_own else name
        return f"{mark} {fit(one_line(short), _NAME)} {count:>{_COUNT}}"

    @on(OptionList.OptionHighlighted)
    def _show(self) -> None:
        """Show the card of the highlighted model."""
        facts = self.query_one(CardView)
        index = self.options.highlighted
        if index is None:
            facts.update(Content("There is no model. Install this program again."))
            return
        name = self._names[index]
        if name not in self._cards:
            self._cards[name] = card(name, self._manifests[name])
        facts.show(self._cards[name])
        button = self.query_one("#load", Button)
        button.label = "Download… (Enter)" if name in self._known else "Load (Enter)"
        button.refresh(layout=True)
        self.query_one("#card").scroll_home(animate=False)

    @on(OptionList.OptionSelected)
    @on(Button.Pressed, "#load")
    def action_choose(self) -> None:
        """Return the highlighted model; one that is not here is downloaded if the person agrees."""
        if self.options.highlighted is None:
            return
        name = self._names[self.options.highlighted]
        if name not in self._known:
            self.dismiss(name)
            return
        from tui.screens.download import DownloadScreen

        self.app.push_screen(DownloadScreen(self._known[name]), self._downloaded)

    def _downloaded(self, name: str | None) -> None:
        if name is not None:
            self.dismiss(name)

    @on(Button.Pressed, "#back")
    def _back(self) -> None:
        self.dismiss(None)
