"""Compares the probabilities of continuations that the person types; no document."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import getters, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import DataTable, Input

from gpt.sanitize import one_line
from gpt.step import Step
from tui.backend import Backend, BackendError
from tui.changes import of_network
from tui.labels import name_of, percent, visible
from tui.measure import measure
from tui.screens.dialog import Dialog
from tui.widgets.field import Field

if TYPE_CHECKING:
    from gpt.interventions import Intervention

LONGEST = 24
"""Characters of a continuation in the table."""
_SHOWN = 40
"""Characters of the text that is continued."""
_IN_FIELD = "Enter: ask the model · Tab: to the list · Esc: back"
_IN_TABLE = "Enter: use this one · Tab: to the field · Esc: back"


class OptionsScreen(Dialog[str | None]):
    """A row for each continuation, the most probable first; returns the chosen one, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back", id="options.back")
    ]

    field = getters.query_one(Input)
    table = getters.query_one(DataTable)

    def __init__(
        self,
        backend: Backend,
        ids: Sequence[int],
        text: str,
        acting: tuple[Intervention, ...] = (),
    ) -> None:
        """ids, text: what is continued. acting: what is changed inside the network."""
        super().__init__()
        self._backend = backend
        self._ids, self._text = list(ids), text
        self._acting = acting
        self._found: dict[str, list[Step]] = {}

    def compose(self) -> ComposeResult:
        """A field above the table."""
        with Vertical() as panel:
            title = "Compare continuations", of_network(self._acting, self._acting)
            panel.border_title = ", ".join(filter(None, title))
            panel.border_subtitle = _IN_FIELD
            field = Field(
                placeholder="Type a continuation with its leading space, and press Enter",
                compact=True,
            )
            end = visible(self._text[-_SHOWN:].encode("utf-8", "replace"), 0)
            field.border_title = Content(f"After {'…' * (len(self._text) > _SHOWN)}{end}")
            yield field
            yield DataTable(cursor_type="row")

    def on_mount(self) -> None:
        """Add the columns."""
        for name in ("continuation", "probability", "bits", "bits/byte", "token by token"):
            self.table.add_column(name)
        self.field.focus()

    def on_descendant_focus(self) -> None:
        """Say what Enter does now."""
        in_table = self.table.has_focus
        self.query_one(Vertical).border_subtitle = _IN_TABLE if in_table else _IN_FIELD

    @on(Input.Submitted)
    def _ask(self, event: Input.Submitted) -> None:
        if event.value:
            self._score(event.value)
        else:
            self.field.border_subtitle = "Type a continuation first"

    @work(exclusive=True)
    async def _score(self, text: str) -> None:
        try:
            (steps,) = await self._backend.options(self._ids, [text], self._acting)
        except BackendError as error:
            self.field.border_subtitle = Content(one_line(str(error)))
            return
        self.field.value, self.field.border_subtitle = "", ""
        self._found[text] = steps
        self._fill()

    def _fill(self) -> None:
        self.table.clear()
        rows = {text: (measure(steps), steps) for text, steps in self._found.items()}
        for text, (whole, steps) in sorted(rows.items(), key=lambda row: row[1][0].nats):
            ratio = "–" if whole.bits_per_byte is None else f"{whole.bits_per_byte:.3f}"
            p = math.exp(-whole.nats)
            numbers = (f"{p:.2g}" if p < 0.0001 else percent(p), f"{whole.bits:.2f}", ratio)
            self.table.add_row(
                Text(_short(visible(text.encode("utf-8", "replace"), 0))),
                *(Text(number, justify="right") for number in numbers),
                Text("  ".join(map(_token, steps))),
                key=text,
            )

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Return the continuation."""
        self.dismiss(event.row_key.value)


def _short(text: str) -> str:
    """The end of a long text goes, so that the numbers stay on the screen."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _token(step: Step) -> str:
    p = "–" if step.logprob is None else percent(math.exp(step.logprob))
    return f"{name_of(step)} {p}"
