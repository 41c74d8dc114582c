"""Why this token and not that one: a logit as a sum of what each part wrote; asks no model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType

from gpt.interpret.looks import PART_NAMES, LogitPart, LogitParts
from gpt.step import Candidate
from tui.bars import bar
from tui.inside.numbers import signed
from tui.inside.place import Place, Question, question
from tui.inside.sheet import Looks, Row, Sheet
from tui.inside.view import InsideView
from tui.labels import fit, fit_one, name_of

_LABEL, _VALUE = 23, 9
"""Cells of a part's name and of its number."""
_DIGITS = 4


class PartsView(InsideView):
    """A bar for each part, the largest first, to both sides of zero; the sum at the foot."""

    NAME = "Logit"
    TITLE = "Why this, not that: parts of the logit"
    OF = "of_whole"
    HELP = "↑↓ scroll · v V other token · s order"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "versus(1)", "other token", id="look.versus"),
        Binding("V", "versus(-1)", "previous other token", id="look.last_versus", show=False),
        Binding("s", "sort", "order", id="look.by_size"),
        Binding("down", "line(1)", "scroll", show=False, id="look.line_down"),
        Binding("up", "line(-1)", "scroll", show=False, id="look.line_up"),
    ]
    _chosen = 0
    """Index of the other token among those to choose from."""
    _by_size = True

    def others(self, place: Place) -> list[Candidate | None]:
        """Tokens that the selected one may be compared with, the best first; then none."""
        token_id = place.step.token_id
        found = [c for c in place.step.candidates if c.token_id != token_id]
        return [*found, None]

    def _other(self, place: Place) -> Candidate | None:
        others = self.others(place)
        return others[self._chosen % len(others)]

    def _question(self, place: Place) -> Question:
        other = self._other(place)
        return question(
            "parts",
            LogitParts,
            ids=place.ids,
            chosen=place.step.token_id,
            versus=None if other is None else other.token_id,
        )

    def questions(self, place: Place) -> Iterable[Question]:
        """The parts of one logit, or of a difference of two."""
        return (self._question(place),)

    def show(self, place: Place) -> None:
        """Another token has other candidates: begin with the best one."""
        if self.place is None or self.place.index != place.index:
            self._chosen = 0
        super().show(place)

    def action_versus(self, by: int) -> None:
        """Compare with the next or previous candidate, or with none."""
        if self.place is not None:
            self._chosen = (self._chosen + by) % len(self.others(self.place))
            self.changed()

    def action_sort(self) -> None:
        """Show the parts in the order of the network, or the largest first again."""
        self._by_size = not self._by_size
        self.changed()

    def action_line(self, by: int) -> None:
        """Scroll by a row."""
        self._scroll(by)

    def sheet(self, place: Place, looks: Looks) -> Sheet | None:
        """The bars between a heading and the sum."""
        found = self.answers.get(self._question(place), LogitParts)
        if found is None:
            return None
        parts = list(found.parts)
        if self._by_size:
            parts.sort(key=lambda part: -abs(part.value))
        other = self._other(place)
        both = [f'logit of "{name_of(each)}"' for each in (place.step, other) if each is not None]
        heading = (
            f"{' minus '.join(both)}, in nats: what each part adds",
            f"nats of each part: {' − '.join(both)}",
        )
        largest = max((abs(part.value) for part in parts), default=0.0)
        body = [_row(part, largest, looks) for part in parts]
        head = [[Segment(fit_one(heading, looks.width), looks.faint)]]
        return Sheet(head, body, _foot(found, looks))


def named(part: LogitPart) -> str:
    """A part in words."""
    name = PART_NAMES.get(part.name, part.name)
    name = f"{name} {part.head}" if part.head is not None else name
    return f"layer {part.layer} {name}" if part.layer else name


def _row(part: LogitPart, largest: float, looks: Looks) -> Row:
    """A part's name, its number, and its bar from the zero line."""
    label = f"{fit(named(part), _LABEL)} {signed(part.value, _DIGITS):>{_VALUE}} "
    half = (looks.width - _LABEL - _VALUE - 3) // 2
    row = [Segment(label, looks.plain)]
    if half < 1:
        return row
    share, ink = abs(part.value) / largest if largest else 0.0, looks.palette.number(part.value)
    if part.value < 0:
        # What a bar from the left would leave free, with ink and ground in each other's place.
        free = bar(1 - share, half, ink).plain.rstrip(" ")
        blank = len(free.rstrip("▏▎▍▌▋▊▉"))
        edge = Segment(free[blank:], ink + Style(reverse=True))
        whole = Segment("█" * (half - len(free)), ink)
        return [*row, Segment(" " * blank, looks.plain), edge, whole, Segment("│", looks.faint)]
    right = Segment(bar(share, half, ink).plain, ink)
    return [*row, Segment(f"{'':{half}}│", looks.faint), right]


def _foot(found: LogitParts, looks: Looks) -> list[Row]:
    """The sum and what the network computes, side by side."""
    what = "logit" if found.versus_id is None else "difference of logits"
    total, true = signed(found.total, 5), signed(found.logit, 5)
    said = f"sum of {len(found.parts)} parts {total} · the network's own {what} {true}"
    if len(said) + 22 <= looks.width:
        said += f", rounding {abs(found.total - found.logit):.1e}"
    elif len(said) > looks.width:
        said = f"sum {total} · network {true}"
    return [[Segment(fit(said, looks.width), looks.top)]]
