"""The whole calculation of one head as a table of its numbers; asks no model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.segment import Segment
from textual.binding import Binding, BindingType

from gpt.interpret.looks import Work, WorkRow
from tui.heat import Scale
from tui.inside.heads import HEAD_KEYS, head_scale, other_head
from tui.inside.numbers import plain_number, vector
from tui.inside.place import Place, Question, of_drawn
from tui.inside.sheet import Looks, Row, Sheet
from tui.inside.view import InsideView
from tui.labels import fit, fit_hints, percent
from tui.widgets.head_rows import in_context

COMPONENTS = 8
"""First components of each vector that are asked."""
_TOKEN = 12
"""Cells of a token with what stands before it."""


def _question(place: Place) -> Question:
    return of_drawn(
        place,
        "work",
        Work,
        ids=place.ids,
        layer=place.block,
        head=place.head,
        components=COMPONENTS,
    )


class WorkView(InsideView):
    """Query, keys, scores, weights, values and what is added, of the chosen head."""

    NAME = "Q·K·V"
    TITLE = "Show the work: one head's calculation"
    OF = "whose"
    HELP = "↑↓ layer · h H head · s by weight"
    BINDINGS: ClassVar[list[BindingType]] = [
        *HEAD_KEYS,
        Binding("s", "sort", "by weight", id="look.by_weight"),
    ]
    _by_weight = False

    def questions(self, place: Place) -> Iterable[Question]:
        """One head at one position."""
        return (_question(place),)

    def scale(self, place: Place) -> Scale | None:
        """The text by the weights."""
        found = self.answers.get(_question(place), Work)
        return head_scale(place, [row.weight for row in found.rows]) if found else None

    def action_head(self, by: int) -> None:
        """Choose the next or previous head."""
        if self.place is not None:
            chosen = other_head(self.place, by)
            self.choose(layer=chosen.layer, head=chosen.head)

    def action_sort(self) -> None:
        """Sort the tokens by their weight, or as in the text again."""
        self._by_weight = not self._by_weight
        self.changed()

    def sheet(self, place: Place, looks: Looks) -> Sheet | None:
        """Query above, a row for each key, the sum below."""
        found = self.answers.get(_question(place), Work)
        if found is None:
            return None
        rows = list(found.rows)
        if self._by_weight:
            rows.sort(key=lambda row: -row.weight)
        at = max(range(len(rows)), key=lambda n: rows[n].weight)
        table = [
            _row(found, row, in_context(place.nodes, row.position, _TOKEN), looks, is_top=n == at)
            for n, row in enumerate(rows)
        ]
        return Sheet(_head(found, place, looks), table, _foot(found, looks), at=at)


def _line(text: str, looks: Looks, *, is_faint: bool = False) -> Row:
    return [Segment(fit(text, looks.width), looks.faint if is_faint else looks.plain)]


def _head(found: Work, place: Place, looks: Looks) -> list[Row]:
    """Which head, its query, and the columns."""
    facts = [f"layer {found.layer}, head {found.head}, {place.where}"]
    how = ["after their norm"] * found.has_norm + ["turned by their positions"] * found.is_rotated
    if found.key_head != found.head:
        facts.append(f"keys and values of head {found.key_head}")
    facts += [f"q and k {' and '.join(how)}"] if how else []
    scale = f"scale {found.scale:.4g}"
    if abs(found.scale * found.head_size**0.5 - 1) < 1e-3:
        scale += f" = 1/√{found.head_size}"
    query = f"query q, |q| {plain_number(found.query_norm)}, "
    query += vector(found.query, found.head_size, looks.width - len(query))
    columns = f"{'token':<{_TOKEN}} {'q·k':>9} {'× scale':>9} {'weight':>7} {'|v|':>8}"
    if cells := _cells(looks):
        columns += f"  {'key k':<{cells}}  value v"
    said = fit_hints(" · ".join([*facts, scale]), looks.width)
    rows = [_line(said, looks, is_faint=True)] if looks.height >= 8 else []
    return [*rows, _line(query, looks), _line(columns, looks, is_faint=True)]


def _row(found: Work, row: WorkRow, name: tuple[str, str], looks: Looks, *, is_top: bool) -> Row:
    """One key: how well it fits the query, and what it gets of the sum.

    name: what stands before the token in the text, and the token.
    """
    score = plain_number(row.score) if row.is_visible else "masked"
    left = f"{name[1]} {plain_number(row.dot):>9} {score:>9} {percent(row.weight):>7} "
    left += f"{plain_number(row.value_norm):>8}  "
    right = ""
    if cells := _cells(looks):
        key, value = (vector(each, found.head_size, cells) for each in (row.key, row.value))
        right = f"{key:<{cells}}  {value}"
    style = looks.top if is_top else looks.plain
    return [Segment(name[0], looks.faint), Segment(left + right, style)]


def _cells(looks: Looks) -> int:
    """Cells of a vector next to the numbers of a row; 0: there is no room for two."""
    cells = (looks.width - _TOKEN - 41) // 2
    return cells if cells >= 12 else 0


def _foot(found: Work, looks: Looks) -> list[Row]:
    """The sum of the values, and what it becomes in the residual stream."""
    total = sum(row.weight for row in found.rows)
    mixed = f"Σ weight · v, |…| {plain_number(found.mixed_norm)}, "
    added = f"added to the stream, |…| {plain_number(found.added_norm)}, "
    mixed += vector(found.mixed, found.head_size, looks.width - len(mixed))
    added += vector(found.added, 1 << 30, looks.width - len(added))
    said = f"{len(found.rows)} tokens, weights sum to {100 * total:.4f} %"
    rows = [_line(said, looks, is_faint=True)] if looks.height >= 10 else []
    return [*rows, _line(mixed, looks), _line(added, looks)]
