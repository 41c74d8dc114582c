"""One distribution in large bars, for a room full of people."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from gpt.step import Step
from tui.bars import bar, full_bar
from tui.labels import fit, fit_hints, name_of, percent, without_number

_THICK = 3
"""Rows of a candidate: two of its bar and an empty one."""
_PERCENT = 9
DIGITS = 9
"""Number of candidates that a key takes."""
_LABEL = 16
_HINTS = "Esc: leave · Space: next token · 1-9: take another · ← →: look at others"


class BigBars(Widget):
    """The candidates of a token; a question until they are revealed."""

    BORDER_TITLE = "What comes next?"
    COMPONENT_CLASSES: ClassVar[set[str]] = {"big-bars--chosen", "big-bars--other"}

    step: reactive[Step | None] = reactive(None)
    """The token whose candidates are shown; None shows the question."""

    def watch_step(self, step: Step | None) -> None:
        """Name the numbers."""
        if step is None:
            self.border_title = "What comes next?"
            self.border_subtitle = "Esc: leave · Space: the answer"
        else:
            self.border_title = fit_hints(" · ".join(self._facts(step)), self.size.width - 4)
            self.border_subtitle = fit_hints(_HINTS, self.size.width - 4)

    def on_resize(self) -> None:
        """Say as many of the keys as fit."""
        self.watch_step(self.step)

    def _facts(self, step: Step) -> Iterator[str]:
        """What the numbers are, and what was drawn from if that is another one."""
        yield "The model's probabilities"
        if step.logprob is None:
            return
        drawn = step.sampling_logprob
        if drawn is not None and not math.isclose(drawn, step.logprob, abs_tol=1e-6):
            yield f"drawn with {percent(math.exp(drawn))}"
        yield f"full bar {full_bar(p for _, _, p in self._shown(step)):.0%}"

    def _shown(self, step: Step) -> list[tuple[int, str, float]]:
        """Id, name and probability of the candidates that have room, and of the token."""
        own = 0.0 if step.logprob is None else math.exp(step.logprob)
        room = max(1, (self.content_size.height + 1) // _THICK)
        shown = [(c.token_id, name_of(c), math.exp(c.logprob)) for c in step.candidates[:room]]
        if step.token_id not in [token_id for token_id, _, _ in shown]:
            shown = [*shown[: room - 1], (step.token_id, name_of(step), own)]
        return shown

    def render(self) -> Text:
        """A question mark, or two rows a candidate."""
        step = self.step
        if step is None:
            return Text("\n" * (self.content_size.height // 2) + "  ?", "bold")
        if step.logprob is None:
            return Text(without_number(step))
        numbers = {c.token_id: n for n, c in enumerate(step.candidates[:DIGITS], 1)}
        shown = self._shown(step)
        most = full_bar(p for _, _, p in shown)
        labels = [label for _, label, _ in shown]
        width = min(_LABEL, max(map(cell_len, labels)))
        cells = max(2, self.content_size.width - width - 5 - _PERCENT)
        lines = []
        for label, (token_id, _, p) in zip(labels, shown, strict=True):
            is_chosen = token_id == step.token_id
            name = "big-bars--chosen" if is_chosen else "big-bars--other"
            drawn = bar(p / most, cells, self.get_component_rich_style(name, partial=True))
            digit = numbers.get(token_id, " ")
            mark = f"{digit}▸ " if is_chosen else f"{digit}  "
            name_style = "bold" if is_chosen else ""
            lines += [
                Text(mark + fit(label, width) + "  ", name_style)
                + drawn
                + Text(f"{percent(p):>{_PERCENT}}", name_style),
                Text(" " * (width + 5)) + drawn,
                Text(),
            ]
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines[:-1])
