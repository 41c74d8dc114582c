"""Which earlier tokens mattered to the selected one, by three measures; asks no model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType

from gpt.interpret.effects import Mattered
from tui.bars import bar
from tui.heat import Scale, influence
from tui.inside.numbers import signed
from tui.inside.place import Place, Question, of_drawn
from tui.inside.sheet import Looks, Row, Sheet
from tui.inside.view import InsideView
from tui.labels import fit, offset
from tui.widgets.head_rows import in_context

LAST = 64
"""Earlier tokens that are looked at."""
_BITS = math.log(2)
_TOKEN, _NUMBER = 14, 10
"""Cells of a token and of a number."""


class Measure(NamedTuple):
    """A way to say how much a token mattered."""

    name: str
    """As in the request."""
    field: str
    """Of the answer."""
    heading: str
    sentence: str


MEASURES = (
    Measure("gradient", "gradient", "grad × input", "gradient of log P times the embedding"),
    Measure("cut", "cut", "cut", "how far log P falls if the last position cannot attend to it"),
    Measure("left out", "left_out", "left out", "how far log P falls without the token"),
)
"""The cheapest first: that is the order in which they are asked."""


def measure_question(place: Place, measure: Measure) -> Question:
    """One measure for the tokens before the selected one."""
    return of_drawn(
        place,
        "mattered",
        Mattered,
        ids=place.ids,
        chosen=place.step.token_id,
        last=LAST,
        measures=(measure.name,),
    )


class MatteredView(InsideView):
    """A row for each earlier token, with three numbers; the text has the colour of one of them."""

    NAME = "Input"
    TITLE = "Which earlier tokens mattered"
    OF = "whose"
    HELP = "c measure · s order · ↑↓ scroll"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "colour", "measure", id="look.measure"),
        Binding("s", "sort", "order", id="look.by_influence"),
        Binding("down", "line(1)", "scroll", show=False, id="look.line_down"),
        Binding("up", "line(-1)", "scroll", show=False, id="look.line_up"),
    ]
    _chosen = len(MEASURES) - 1
    _by_size = True

    def questions(self, place: Place) -> Iterable[Question]:
        """The three measures."""
        return tuple(measure_question(place, measure) for measure in MEASURES)

    def _bits(self, place: Place, measure: Measure) -> list[float | None] | None:
        """Bits for each earlier token; None until they are known."""
        found = self.answers.get(measure_question(place, measure), Mattered)
        if found is None:
            return None
        return [None if nats is None else nats / _BITS for nats in getattr(found, measure.field)]

    def scale(self, place: Place) -> Scale | None:
        """The text by the chosen measure."""
        measure = MEASURES[self._chosen]
        bits = self._bits(place, measure)
        if bits is None:
            return None
        return influence(f'{measure.heading}: influence on "{place.name(place.index)}"', bits)

    @property
    def title(self) -> str:
        """What it is, and which measure colours the text."""
        return f"{self.TITLE} · colour: {MEASURES[self._chosen].heading}"

    def action_colour(self) -> None:
        """Colour and sort by the next measure."""
        self._chosen = (self._chosen + 1) % len(MEASURES)
        self._top = 0
        self.changed()

    def action_sort(self) -> None:
        """Show the tokens as in the text, or the most important first again."""
        self._by_size, self._top = not self._by_size, 0
        self.changed()

    def action_line(self, by: int) -> None:
        """Scroll by a row."""
        self._scroll(by)

    def sheet(self, place: Place, looks: Looks) -> Sheet | None:
        """The rows, with what the chosen measure is above and the sums below."""
        columns = [self._bits(place, measure) for measure in MEASURES]
        known = [bits for bits in columns if bits is not None]
        if not known:
            return None
        shown = [i for i in range(len(place.ids)) if any(bits[i] is not None for bits in known)]
        chosen = columns[self._chosen]
        if self._by_size and chosen is not None:
            shown.sort(key=lambda i: -abs(chosen[i] or 0.0))
        largest = max((abs(bits[i] or 0.0) for bits in known for i in shown), default=0.0)
        headings = [
            Segment(
                f"{measure.heading:>{_NUMBER + 3}}",
                looks.top if n == self._chosen else looks.faint,
            )
            for n, measure in enumerate(MEASURES)
        ]
        label = _label(looks)
        first = Segment(f"{fit('bits', label)} where", looks.faint)
        sentence = f"{MEASURES[self._chosen].sentence}, {place.where}"
        if cell_len(sentence) > looks.width:
            sentence = f"{MEASURES[self._chosen].sentence}: {place.short_where}"
        head: list[Row] = [[Segment(fit(sentence, looks.width), looks.faint)], [first, *headings]]
        body = [self._of_token(place, i, columns, largest, looks) for i in shown]
        return Sheet(head[-1:] if looks.height < 7 else head, body, _foot(columns, looks))

    def _of_token(
        self,
        place: Place,
        i: int,
        columns: Sequence[Sequence[float | None] | None],
        largest: float,
        looks: Looks,
    ) -> Row:
        """A token, its distance, its numbers, and a bar of the chosen one."""
        before, name = in_context(place.nodes, i, _label(looks))
        left = f"{name} {offset(i, place.index - 1):>5}"
        row = [Segment(before, looks.faint), Segment(left, looks.plain)]
        for bits in columns:
            value = None if bits is None else bits[i]
            text = "…" if bits is None else "–" if value is None else signed(value, 3)
            row.append(Segment(f"{text:>{_NUMBER + 3}}", _style(value, looks)))
        chosen = columns[self._chosen]
        cells = looks.width - sum(cell_len(segment.text) for segment in row) - 1
        if cells > 3 and largest and chosen is not None and chosen[i] is not None:
            value = chosen[i] or 0.0
            drawn = bar(abs(value) / largest, cells, looks.more).plain
            row.append(Segment(f" {drawn}", _style(value, looks)))
        return row


def _label(looks: Looks) -> int:
    """Cells of a token: fewer in a narrow view, so that all numbers are there."""
    return max(3, min(_TOKEN, looks.width - 6 - len(MEASURES) * (_NUMBER + 3)))


def _style(value: float | None, looks: Looks) -> Style:
    return looks.palette.number(value) if value else looks.faint


def _foot(columns: Sequence[Sequence[float | None] | None], looks: Looks) -> list[Row]:
    """The sums of the measures."""
    row = [Segment(fit("sum", _label(looks) + 6), looks.faint)]
    for bits in columns:
        known = None if bits is None else math.fsum(value or 0.0 for value in bits)
        text = "…" if known is None else signed(known, 3)
        row.append(Segment(f"{text:>{_NUMBER + 3}}", looks.plain))
    return [row] if looks.height >= 6 else []
