"""Change the order in which the sampling settings act."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from gpt.settings import ORDER
from tui.dials import KNOBS, STAGES, WORDS
from tui.screens.dialog import Dialog
from tui.widgets.option_rows import OptionRows

_TIPS = {**WORDS, **{knob.name: knob.tip for knob in KNOBS}}


class OrderScreen(Dialog[tuple[str, ...] | None]):
    """A line for each setting, the first one on top; returns their names in order, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back", id="order.back"),
        Binding("shift+up,K,minus", "earlier", "earlier", id="order.earlier"),
        Binding("shift+down,J,plus", "later", "later", id="order.later"),
        Binding("delete,0", "reset", "usual order", id="order.reset"),
        Binding("enter", "use", "use it", id="order.use", priority=True),
    ]

    def __init__(self, order: tuple[str, ...], acting: Collection[str]) -> None:
        """order: as in Sampling. acting: names of the settings that are not neutral."""
        super().__init__()
        self._order, self._acting = list(order or ORDER), acting

    def compose(self) -> ComposeResult:
        """The list."""
        options = OptionRows(*(Option(line) for line in self._lines()))
        options.border_title = "Order of the sampling settings: the first one acts first"
        options.border_subtitle = Content.from_markup(
            "[@click=screen.earlier]Shift+↑[/] [@click=screen.later]Shift+↓[/]: move · "
            "[@click=screen.reset]Del: usual order[/] · [@click=screen.use]Enter: use it[/] · "
            "Esc: back"
        )
        yield options

    @property
    def _list(self) -> OptionList:
        return self.query_one(OptionList)

    def _lines(self) -> list[Content]:
        lines = []
        for number, name in enumerate(self._order, 1):
            style = "bold" if name in self._acting else "dim"
            said = (
                (f"{number:2}  {STAGES[name]:13}", style),
                (_TIPS[name], "" if style == "bold" else style),
            )
            lines.append(Content.assemble(*said))
        return lines

    def _show(self, highlighted: int) -> None:
        for index, line in enumerate(self._lines()):
            self._list.replace_option_prompt_at_index(index, line)
        self._list.highlighted = highlighted

    def action_earlier(self) -> None:
        """Let the highlighted setting act earlier."""
        self._shift(-1)

    def action_later(self) -> None:
        """Let it act later."""
        self._shift(1)

    def _shift(self, by: int) -> None:
        here = self._list.highlighted or 0
        there = here + by
        if 0 <= there < len(self._order):
            self._order[here], self._order[there] = self._order[there], self._order[here]
            self._show(there)

    def action_reset(self) -> None:
        """Show the usual order."""
        self._order = list(ORDER)
        self._show(self._list.highlighted or 0)

    def action_use(self) -> None:
        """Return this order."""
        self.dismiss(tuple(self._order))

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        """A click only highlights; nothing is chosen yet."""
        event.stop()
