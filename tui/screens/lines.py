"""A table of the lines of a text and their surprisal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import getters
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import DataTable, Static

from gpt.sanitize import one_line
from gpt.step import Step
from tui.measure import Measure, by_line, measure
from tui.screens.dialog import Dialog


class LinesScreen(Dialog[int | None]):
    """Returns the index of the first token of the chosen line, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f5", "dismiss(None)", "back", id="measures.back")
    ]

    table = getters.query_one(DataTable)

    def __init__(self, steps: Sequence[Step], drawn: float | None = None) -> None:
        """drawn: perplexity of the tokens that the model has drawn; None if there are none."""
        super().__init__()
        self._steps, self._drawn = steps, drawn

    def compose(self) -> ComposeResult:
        """The total above the lines."""
        whole = measure(self._steps)
        with Vertical() as panel:
            panel.border_title = "Each line, scored by the model"
            panel.border_subtitle = "Enter: go to the line · Esc: back"
            yield Static(summary(whole, self._drawn), markup=False)
            yield DataTable(cursor_type="row")

    def on_mount(self) -> None:
        """Add a row for each line."""
        for name in ("line", "tokens", "bits", "bits/byte", "perplexity", "text"):
            self.table.add_column(name)
        for number, line in enumerate(by_line(self._steps), 1):
            cells = [f"{number}", f"{line.n_tokens}", f"{line.bits:.1f}", *_ratios(line)]
            row = [Text(cell, justify="right") for cell in cells]
            self.table.add_row(*row, Text(one_line(line.text)[:60]), key=str(line.first))
        self.table.focus()

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Return the line."""
        self.dismiss(int(event.row_key.value or 0))


def summary(whole: Measure, drawn: float | None = None) -> str:
    """The total as one line of text. drawn: perplexity of what the model has drawn."""
    ratio, perplexity = _ratios(whole)
    return (
        f"{whole.n_tokens:,} tokens, {whole.n_bytes:,} bytes: {whole.bits:,.1f} bits, "
        f"{ratio} bits per byte, perplexity {perplexity}"
        + ("" if drawn is None else f" (of what the model drew: {drawn:,.2f})")
    )


def _ratios(line: Measure) -> tuple[str, str]:
    if line.bits_per_byte is None or line.perplexity is None:
        return "–", "–"
    return f"{line.bits_per_byte:.3f}", f"{line.perplexity:,.2f}"
