"""What each sampling setting did to each candidate of one token; it knows no document."""

from __future__ import annotations

import math
from dataclasses import replace

from rich.text import Text
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from gpt.step import Step
from gpt.waterfall import Row, Waterfall
from tui.widgets.inspector import fit, percent, visible

NAMES = {
    "model": "the model",
    "banned": "banned",
    "boosted": "boosted",
    "repetition_penalty": "repetition",
    "temperature": "temperature",
    "top_k": "top-k",
    "top_p": "top-p",
    "min_p": "min-p",
}
_COLUMN = 12
_LABEL = 12


def as_drawn(found: Waterfall, step: Step, *, same_settings: bool) -> Waterfall:
    """The same, with the numbers that a Step has already, so that all panels show the same ones.

    Computed anew they may differ in the last digit: fast code and the network round differently.
    same_settings: the token was drawn with these settings, so the last column is known too.
    """
    known: dict[int, tuple[float | None, float | None]] = {
        each.token_id: (each.logprob, each.sampling_logprob) for each in step.candidates
    }
    known[step.token_id] = step.logprob, step.sampling_logprob
    rows, rest = [], list(found.rest)
    for row in found.rows:
        own, after = known.get(row.token_id, (None, None))
        values = list(row.probabilities)
        if same_settings and after is not None:
            values[-1] = math.exp(after)
        if own is not None:
            values[0] = math.exp(own)
        rest = [r + old - new for r, old, new in zip(rest, row.probabilities, values, strict=True)]
        rows.append(replace(row, probabilities=tuple(values)))
    return replace(found, rows=tuple(rows), rest=tuple(max(0.0, r) for r in rest))


class WaterfallTable(Widget):
    """A row for every candidate, a column for every setting that does something."""

    BORDER_TITLE = "the settings, one after the other, at this token"

    found: reactive[Waterfall | None] = reactive(None)
    chosen: reactive[int | None] = reactive(None)
    """The token that stands in the text."""

    def watch_found(self, found: Waterfall | None) -> None:
        """Say what the dice do."""
        if found is None:
            self.border_subtitle = ""
            return
        row = next(row for row in found.rows if row.token_id == found.drawn)
        name = visible(row.bytes, row.token_id)
        self.border_subtitle = Content(f"▸ in the text   ⚄ what these dice take: {name}")

    def render(self) -> Text:
        """The table, as many rows as there is room for."""
        text = Text(no_wrap=True, overflow="ellipsis")
        found = self.found
        if found is None:
            return text.append("the first token has no context, and so no distribution", "dim")
        heading = "".join(f"{NAMES.get(name, name):>{_COLUMN}}" for name in found.stages)
        text.append(f"{'':{_LABEL + 2}}{heading}\n", "bold")
        for row in self._shown(found):
            mark = "▸" if row.token_id == self.chosen else " "
            dice = "⚄" if row.token_id == found.drawn else " "
            style = "bold" if mark + dice != "  " else ""
            text.append(mark + fit(visible(row.bytes, row.token_id), _LABEL) + dice, style)
            text.append_text(_cells(row, found.stages))
        hidden = [row for row in found.rows if row not in self._shown(found)]
        rest = [
            found.rest[i] + sum(row.probabilities[i] for row in hidden)
            for i in range(len(found.stages))
        ]
        label = fit(f"{found.n_rest + len(hidden)} more", _LABEL)
        text.append(f" {label} " + "".join(f"{percent(p):>{_COLUMN}}" for p in rest) + "\n", "dim")
        left = "".join(f"{n:>{_COLUMN},}" for n in found.left)
        return text.append(f" {fit('tokens left', _LABEL)} {left}", "dim")

    def _shown(self, found: Waterfall) -> list[Row]:
        """Rows that fit; the two that matter most are always among them."""
        room = max(2, self.content_size.height - 3)
        needed = [row for row in found.rows if row.token_id in (self.chosen, found.drawn)]
        best = [row for row in found.rows if row not in needed][: room - len(needed)]
        return [row for row in found.rows if row in needed or row in best]


def _cells(row: Row, stages: tuple[str, ...]) -> Text:
    """Probabilities up to the stage that took the token out, which has a cross."""
    text = Text()
    for name, p in zip(stages, row.probabilities, strict=True):
        if name == row.removed_by:
            text.append(f"{'✕ gone':>{_COLUMN}}", "red")
            break
        text.append(f"{percent(p):>{_COLUMN}}")
    return text.append("\n")
