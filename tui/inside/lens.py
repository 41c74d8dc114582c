"""The logit lens over the whole text: layers × tokens; asks no model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual.binding import Binding, BindingType

from gpt.interpret.looks import LensCell, LensGrid
from tui.bars import bar
from tui.heat import MEASURES, Measure, Scale
from tui.inside.numbers import flowing
from tui.inside.place import Place, Question, of_drawn
from tui.inside.sheet import Looks, Row, Sheet
from tui.inside.view import InsideView
from tui.labels import fit, percent, visible

SHOWN = 100
"""Tokens that are asked at once."""
TOP = 10
"""Tokens of the cell under the cursor."""
_STEP = SHOWN // 2
_NAME = 11
"""Cells of a layer's name."""
_SIDE, _WIDE = 30, 90
"""Cells of the list next to the grid, and of a view that has it there."""
_NARROWEST, _NUMBER, _WIDEST = 4, 6, (8, 11)
"""Cells of a column: at least; with numbers at least; at most, in a narrow and in a wide view."""


def _percent(logprob: float) -> str:
    p = 100 * math.exp(logprob)
    return "<.01" if p < 0.01 else f"{p:.2f}" if p < 9.995 else f"{p:.1f}" if p < 99.95 else "100"


_NUMBERS: dict[str, tuple[str, Callable[[float], str]]] = {
    "logprobs": ("in %", _percent),
    "chosen_logprobs": ("in %", _percent),
    "entropies": ("", lambda nats: f"{math.exp(nats):,.3g}"),
    "divergences": ("in bits", lambda nats: f"{nats / math.log(2):.3g}"),
}
"""Name of a measure → its unit, and a number in at most five cells or about so."""


class LensView(InsideView):
    """Rows are layers from the embedding to the output, columns the tokens that are predicted."""

    NAME = "Lens"
    TITLE = "Logit lens"
    OF = "whose"
    HELP = "↑↓ layer · c colour · m rows after attention"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "colour", "colour", id="look.colour"),
        Binding("m", "middle", "rows after attention", id="look.middle"),
    ]
    _measure = 0
    _has_middle = False

    def _grid_question(self, place: Place) -> Question:
        """All tokens of a short text, else a hundred around the cursor.

        The same for the tokens of a stretch, so that moving does not ask again.
        """
        end = len(place.nodes)
        if end > SHOWN:
            end = min(end, place.index // _STEP * _STEP + _STEP + _STEP // 2)
        ids = place.ids_to(end)
        return of_drawn(place, "lens", LensGrid, ids=ids, last=SHOWN, middle=self._has_middle)

    def _cell_question(self, place: Place) -> Question:
        return of_drawn(
            place,
            "cell",
            LensCell,
            ids=place.ids,
            layer=place.layer,
            middle=self._has_middle and place.is_middle,
            top=TOP,
        )

    def questions(self, place: Place) -> Iterable[Question]:
        """The grid, then the cell under the cursor."""
        return self._grid_question(place), self._cell_question(place)

    @property
    def title(self) -> str:
        """What it is, and what its colours mean."""
        measure = MEASURES[self._measure]
        unit = _NUMBERS[measure.name][0]
        return f"{self.TITLE} · colour: {measure.title}{', ' * bool(unit)}{unit}"

    def scale(self, place: Place) -> Scale | None:
        """The text by the number of the chosen layer."""
        grid = self.answers.get(self._grid_question(place), LensGrid)
        if grid is None:
            return None
        row = self._row_of(grid, place)
        measure = MEASURES[self._measure]
        numbers = getattr(grid, measure.name)[row]
        values = dict(zip(grid.positions, numbers, strict=True))
        return measure.scale(_named(grid, row), values)

    def _row_of(self, grid: LensGrid, place: Place) -> int:
        """Index of the row of the chosen layer."""
        rows = list(zip(grid.layers, grid.is_middle, strict=True))
        wanted = place.layer, self._has_middle and place.is_middle
        return rows.index(wanted) if wanted in rows else len(rows) - 1

    def step(self, place: Place, by: int) -> Place:
        """The row below or above."""
        grid = self.answers.get(self._grid_question(place), LensGrid)
        if grid is None:
            return place
        row = max(0, min(len(grid.layers) - 1, self._row_of(grid, place) + by))
        return replace(place, layer=grid.layers[row], is_middle=grid.is_middle[row])

    def action_colour(self) -> None:
        """Colour by the next number."""
        self._measure = (self._measure + 1) % len(MEASURES)
        self.changed()

    def action_middle(self) -> None:
        """Show the stream between attention and MLP as well, or no longer."""
        self._has_middle = not self._has_middle
        self.changed()

    def sheet(self, place: Place, looks: Looks) -> Sheet | None:
        """The grid, with the ten best of the cell under the cursor next to it or below."""
        grid = self.answers.get(self._grid_question(place), LensGrid)
        if grid is None or place.index not in grid.positions:
            return None
        found = self.answers.get(self._cell_question(place), LensCell)
        is_wide = looks.width >= _WIDE
        width = looks.width - _SIDE - 2 if is_wide else looks.width
        row = self._row_of(grid, place)
        columns = _Columns(grid, place, width, has_numbers=_is_high(grid, looks.height))
        sheet = Sheet([columns.heading(looks)])
        for each in range(len(grid.layers)):
            sheet.body += columns.rows(each, MEASURES[self._measure], looks, is_here=each == row)
        lines = len(sheet.body) // len(grid.layers)
        sheet.at = lines * (row + 1) - 1
        column = grid.positions.index(place.index)
        facts = _facts(grid, row, column)
        cell = found and _agreed(found, grid, (row, column), place.step.token_id)
        if is_wide:
            title = f'{_named(grid, row)}, for "{place.name(place.index)}"'
            side = [[Segment(fit(title, _SIDE), looks.faint)], *_listed(cell, looks), []]
            side += [[Segment(f"{name:<17}{value}", looks.faint)] for name, value in facts]
            sheet.side, sheet.side_at = side, width + 2
        elif looks.height >= 7:
            parts = [f"{name} {percent(p)}" for name, p in _best(cell)]
            best = flowing(parts, looks.width, 1 + (looks.height >= 10))
            sheet.foot = [[Segment(fit(line, looks.width), looks.top)] for line in best]
            if looks.height >= 10:
                said = "  ".join(f"{name} {value}" for name, value in facts)
                if len(said) > looks.width:
                    said = "  ".join(f"{_SHORT.get(name, name)} {value}" for name, value in facts)
                sheet.foot.append([Segment(fit(said, looks.width), looks.faint)])
        return sheet

    def clicked(self, place: Place, x: int, row: int) -> None:
        """Choose the cell under the mouse."""
        grid = self.answers.get(self._grid_question(place), LensGrid)
        if grid is None:
            return
        is_high = _is_high(grid, self.content_size.height)
        row = row // 2 if is_high else row
        is_wide = self.content_size.width >= _WIDE
        width = self.content_size.width - (_SIDE + 2) * is_wide
        position = _Columns(grid, place, width, has_numbers=is_high).position(x)
        if position is not None and position < len(place.nodes):
            changes = (
                {"layer": grid.layers[row], "is_middle": grid.is_middle[row]} if row >= 0 else {}
            )
            self.choose(index=position, **changes)


def _named(grid: LensGrid, row: int) -> str:
    """A row in words."""
    if not grid.layers[row]:
        return "embedding"
    if grid.is_middle[row]:
        return f"layer {grid.layers[row]} after attention"
    return "output" if row == len(grid.layers) - 1 else f"layer {grid.layers[row]}"


class _Columns:
    """Which columns of a grid are shown, and how wide they are."""

    def __init__(self, grid: LensGrid, place: Place, width: int, *, has_numbers: bool) -> None:
        self._grid, self._place = grid, place
        self._has_numbers = has_numbers
        self._labels = {t.token_id: visible(t.bytes, t.token_id) for t in grid.tokens}
        names = [place.name(position) for position in grid.positions]
        longest = max(map(cell_len, (*self._labels.values(), *names)), default=1)
        least = _NUMBER if has_numbers else _NARROWEST
        self._cells = max(least, min(_WIDEST[width > 90], longest + 1))
        count = max(1, (width - _NAME) // self._cells)
        here = grid.positions.index(place.index)
        first = max(0, min(here - count // 2, len(grid.positions) - count))
        self._shown = range(first, min(len(grid.positions), first + count))

    def position(self, x: int) -> int | None:
        """The position whose column is at this cell of the row."""
        n = (x - _NAME) // self._cells
        inside = x >= _NAME and n < len(self._shown)
        return self._grid.positions[self._shown[n]] if inside else None

    def heading(self, looks: Looks) -> Row:
        """The tokens of the text above their columns."""
        row = [Segment(fit("predicts", _NAME), looks.faint)]
        for n in self._shown:
            position = self._grid.positions[n]
            style = looks.here if position == self._place.index else looks.faint
            row.append(Segment(fit(f" {self._place.name(position)}", self._cells), style))
        return row

    def rows(self, each: int, measure: Measure, looks: Looks, *, is_here: bool) -> list[Row]:
        """A layer's guesses, each on the colour of its number, and the numbers below them."""
        name = _named(self._grid, each).replace("layer ", "").replace(" after attention", " attn")
        first = looks.top if is_here else looks.faint
        rows: list[Row] = [[Segment(fit(f"{'▸' if is_here else ' '}{name}", _NAME), first)]]
        if self._has_numbers:
            rows.append([Segment(" " * _NAME, looks.plain)])
        values = getattr(self._grid, measure.name)[each]
        for n in self._shown:
            style = looks.palette.style(measure.heat(values[n]), "model")
            if is_here and self._grid.positions[n] == self._place.index:
                style = looks.here
            number = "–" if values[n] is None else _NUMBERS[measure.name][1](values[n])
            for row, text in zip(
                rows, (self._labels[self._grid.ids[each][n]], number), strict=False
            ):
                row.append(Segment(fit(f" {text}", self._cells), style))
        return rows


def _agreed(cell: LensCell, grid: LensGrid, at: tuple[int, int], chosen: int) -> LensCell:
    """The cell with the grid's numbers where the grid has them. chosen: the token in the text.

    For the grid the network read the whole text, for the cell one token. In 16 bits the two round
    differently, but a screen should have one number for one probability.
    """
    row, column = at
    known = {
        chosen: grid.chosen_logprobs[row][column],
        grid.ids[row][column]: grid.logprobs[row][column],
    }
    pairs = zip(cell.tokens, cell.logprobs, strict=True)
    agreed = ((known.get(token.token_id), own) for token, own in pairs)
    return replace(cell, logprobs=tuple(own if p is None else p for p, own in agreed))


def _is_high(grid: LensGrid, height: int) -> bool:
    """Whether each layer has a second row, for its numbers."""
    return height > 2 * len(grid.layers)


def _best(cell: LensCell | None) -> list[tuple[str, float]]:
    """The most probable tokens of a cell with their probabilities."""
    if cell is None:
        return []
    pairs = zip(cell.tokens, cell.logprobs, strict=True)
    return [(visible(token.bytes, token.token_id), math.exp(p)) for token, p in pairs]


def _listed(cell: LensCell | None, looks: Looks) -> list[Row]:
    """The same as rows; empty ones until they are known."""
    rows: list[Row] = []
    for name, p in _best(cell):
        label = Segment(f"{fit(name, 10)} {percent(p):>7} ", looks.plain)
        rows.append([label, Segment(bar(p, _SIDE - 19, looks.more).plain, looks.more)])
    return rows + [[]] * (TOP - len(rows))


_SHORT = {"P of the token": "P", "KL to the output": "KL"}
"""Name of a number → how it is called in a narrow terminal."""


def _facts(grid: LensGrid, row: int, column: int) -> list[tuple[str, str]]:
    """The other numbers of a cell, with their names."""
    logprob = grid.chosen_logprobs[row][column]
    return [
        ("P of the token", "–" if logprob is None else percent(math.exp(logprob))),
        ("equally likely", f"≈ {math.exp(grid.entropies[row][column]):,.3g}"),
        ("KL to the output", f"{grid.divergences[row][column] / math.log(2):.3f} bits"),
    ]
