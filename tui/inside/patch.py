"""Patching: the stream of another text put into this one, a cell at a time; asks no model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from textwrap import wrap
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from textual.binding import Binding, BindingType

from gpt.interpret.effects import PatchGrid
from gpt.sanitize import one_line
from gpt.step import Candidate
from tui.document import Node
from tui.heat import STEPS, Scale, patch_scale
from tui.inside.numbers import signed
from tui.inside.place import Place, Question, question
from tui.inside.sheet import Looks, Row, Sheet
from tui.inside.view import InsideView
from tui.inside.wishes import Ask, Blank, Typed
from tui.labels import fit, name_of

SHOWN = 64
"""Tokens whose cells are computed: the first half from the first one on that differs, and the last
ones."""
_NAME, _CELLS = 11, 6
"""Cells of a layer's name and of a column."""
_SAID = 40
"""Last characters of the other text that are shown."""


class Other(NamedTuple):
    """The text that the stream comes from."""

    name: str
    ids: tuple[int, ...]


class PatchView(InsideView):
    """Rows are layers, columns tokens: how far each cell alone moves a difference of logits."""

    NAME = "Patch"
    TITLE = "Patch: put the other text's stream in, a cell at a time"
    OF = "of_whole"
    HELP = "t other text · b other branch · v V other token · ↑↓ h H cell"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "text", "other text", id="look.other_text"),
        Binding("b", "branch", "other branch", id="look.other_branch"),
        Binding("v", "versus(1)", "other token", id="look.versus"),
        Binding("V", "versus(-1)", "previous other token", id="look.last_versus", show=False),
        Binding("up", "cell(-1, 0)", "layer", show=False, id="look.row_up"),
        Binding("down", "cell(1, 0)", "layer", show=False, id="look.row_down"),
        Binding("h,shift+right", "cell(0, 1)", "next cell", id="look.next_cell"),
        Binding("H,shift+left", "cell(0, -1)", "previous cell", id="look.last_cell", show=False),
    ]
    _typed: Typed | None = None
    """The other text, if it was typed."""
    _branch: int | None = None
    """Index of the other branch, if one was chosen."""
    _versus = 0
    _at_layer, _at_token = 0, 0
    """The cell that is told in words."""

    # Which text, which tokens.

    def _branches(self, place: Place) -> list[Other]:
        """The other branches, as far as they are as long as what is before the selected token."""
        found: dict[tuple[int, ...], str] = {}
        for number, nodes in enumerate(place.branches(), 1):
            ids = tuple(node.step.token_id for node in nodes[: place.index])
            if len(ids) == place.index and ids != place.ids:
                found.setdefault(ids, f"branch {number}: {_end_of(nodes[: place.index])}")
        return [Other(name, ids) for ids, name in found.items()]

    def other(self, place: Place) -> Other | None:
        """The other text, if it has as many tokens as there are before the selected one."""
        if self._branch is not None:
            branches = self._branches(place)
            return branches[self._branch % len(branches)] if branches else None
        if self._typed is None or len(self._typed.ids) != place.index:
            return None
        return Other(f'"{_end(self._typed.text)}"', self._typed.ids)

    def _candidate(self, place: Place) -> Candidate | None:
        """The token whose logit is subtracted."""
        step = place.step
        others = [each for each in step.candidates if each.token_id != step.token_id]
        return others[self._versus % len(others)] if others else None

    def _question(self, place: Place) -> Question | None:
        other, versus = self.other(place), self._candidate(place)
        if other is None or versus is None or other.ids == place.ids:
            return None
        pairs = zip(place.ids, other.ids, strict=True)
        differ = next(i for i, (here, there) in enumerate(pairs) if here != there)
        columns = range(differ, place.index)
        first, last = columns[: SHOWN // 2], columns[SHOWN // 2 :][-SHOWN // 2 :]
        return question(
            "patch",
            PatchGrid,
            ids=place.ids,
            other=other.ids,
            chosen=place.step.token_id,
            versus=versus.token_id,
            positions=(*first, *last),
        )

    def questions(self, place: Place) -> Iterable[Question]:
        """The grid, once there is another text."""
        asked = self._question(place)
        return () if asked is None else (asked,)

    def _grid(self, place: Place) -> PatchGrid | None:
        asked = self._question(place)
        return None if asked is None else self.answers.get(asked, PatchGrid)

    def scale(self, place: Place) -> Scale | None:
        """The text by the numbers of the chosen layer."""
        grid = self._grid(place)
        if grid is None or not grid.layers:
            return None
        row = min(self._at_layer, len(grid.layers) - 1)
        values = dict(zip(grid.positions, _levels(grid)[row], strict=True))
        return patch_scale(f"Patched {_named(grid.layers[row])}", values)

    # Keys.

    def action_text(self) -> None:
        """Ask for the other text."""
        if (place := self.place) is not None and place.index:
            text = b"".join(node.step.added for node in place.nodes[: place.index])
            before = self._typed.text if self._typed else text.decode("utf-8", "replace")
            label = f"with {place.index} tokens, as many as stand before the selected one"
            self.post_message(
                Ask("The other text", [Blank(label, before)], self._wrong, self._took)
            )

    def _wrong(self, typed: list[Typed]) -> str:
        n = len(typed[0].ids)
        if self.place is None or n == self.place.index:
            same = self.place is not None and typed[0].ids == self.place.ids
            return "That is the same text; change a word" if same else ""
        return f"It has {n} tokens; {self.place.index} are needed"

    def _took(self, typed: list[Typed]) -> None:
        self._typed, self._branch = typed[0], None
        self.changed()

    def action_branch(self) -> None:
        """Take the next other branch of the text."""
        self._branch = 0 if self._branch is None else self._branch + 1
        self.changed()

    def action_versus(self, by: int) -> None:
        """Compare with the next or previous candidate."""
        self._versus += by
        self.changed()

    def action_cell(self, down: int, right: int) -> None:
        """Choose the cell so many layers and tokens away."""
        grid = None if self.place is None else self._grid(self.place)
        if grid is not None:
            self._at_layer = max(0, min(len(grid.layers) - 1, self._at_layer + down))
            self._at_token = max(0, min(len(grid.positions) - 1, self._at_token + right))
            self.changed()

    def clicked(self, place: Place, x: int, row: int) -> None:
        """Choose the cell under the mouse."""
        grid = self._grid(place)
        if grid is None or not 0 <= row < len(grid.layers):
            return
        n = (x - _NAME) // _CELLS
        shown = self._shown(grid, self.content_size.width)
        if x >= _NAME and n < len(shown):
            self._at_layer, self._at_token = row, shown[n]
            self.changed()

    # Drawing.

    def _shown(self, grid: PatchGrid, width: int) -> range:
        """Indices of the columns that fit."""
        count = max(1, (width - _NAME) // _CELLS)
        column = min(self._at_token, len(grid.positions) - 1)
        first = max(0, min(column - count // 2, len(grid.positions) - count))
        return range(first, min(len(grid.positions), first + count))

    def sheet(self, place: Place, looks: Looks) -> Sheet | None:
        """The grid between both texts and the cell in words; before, what is needed."""
        if (said := self._needed(place)) is not None:
            lines = [line for each in said for line in wrap(each, max(1, looks.width))]
            return Sheet([[Segment(line, looks.plain)] for line in lines])
        other, grid, versus = self.other(place), self._grid(place), self._candidate(place)
        if other is None or grid is None or versus is None or not grid.layers:
            return None
        row = min(self._at_layer, len(grid.layers) - 1)
        column = min(self._at_token, len(grid.positions) - 1)
        shown = self._shown(grid, looks.width)
        sheet = Sheet(_headings(place, other, grid, (shown, column), looks), at=row)
        levels = _levels(grid)
        for n, layer in enumerate(grid.layers):
            mark = "▸" if n == row else " "
            name = Segment(fit(f"{mark}{_named(layer)}", _NAME), looks.faint)
            cells: Row = [name]
            for each in shown:
                style = looks.palette.style(levels[n][each], "model", is_signed=True)
                style = looks.here if (n, each) == (row, column) else style
                cells.append(Segment(f"{_number(grid, n, each):^{_CELLS}}", style))
            sheet.body.append(cells)
        sheet.foot = self._told(place, other, grid, (row, column), looks)
        return sheet

    def _needed(self, place: Place) -> list[str] | None:
        """What the person must do before anything can be computed."""
        if self._candidate(place) is None:
            return ["This token has no other candidate to compare with."]
        if self.other(place) is not None:
            return None
        n = place.index
        tokens = "one token" if n == 1 else f"{n} tokens"
        said = [f"Patching needs another text with {tokens}, as many as come before this one."]
        if self._branch is not None:
            return [*said, "No other branch of this text is that long. t: type one."]
        if self._typed is not None:
            said.append(f"The one you typed has {len(self._typed.ids)}.")
        branches = len(self._branches(place))
        return [
            *said,
            "t: type it." + f" b: take one of {branches} other branches." * bool(branches),
        ]

    def _told(
        self, place: Place, other: Other, grid: PatchGrid, cell: tuple[int, int], looks: Looks
    ) -> list[Row]:
        """The cell under the cursor in words, below what all cells are measured with."""
        row, column = cell
        versus = self._candidate(place)
        position = grid.positions[column]
        value = grid.difference[row][column]
        share = "" if grid.share is None else f", {100 * grid.share[row][column]:.0f} % of the way"
        ends = f"here {signed(grid.here, 3)}, other text {signed(grid.there, 3)}"
        name = "" if versus is None else name_of(versus)
        if grid.is_close:
            ends += "; so close that shares say little"
        lines = [
            f'logit of "{place.name(place.index)}" minus logit of "{name}": {ends}',
            f"{signed(value, 3)}{share.replace('-', '−')}: {_named(grid.layers[row])} at "
            f'"{place.name(position)}" (position {position}) from the other text',
        ]
        styles = looks.faint, looks.top
        rows: list[Row] = [
            [Segment(fit(line, looks.width), style)]
            for line, style in zip(lines, styles, strict=True)
        ]
        if looks.height >= 12:
            what = "0: as here, 1: as after the other text" if share else "difference of the logits"
            said = f"{what}, which is {other.name}"
            if len(grid.positions) <= grid.positions[-1] - grid.positions[0]:
                said = f"the first and last {SHOWN // 2} tokens from the change on; {said}"
            rows.insert(0, [Segment(fit(said, looks.width), looks.faint)])
        return rows if looks.height >= 7 else rows[-1:]


def _end_of(nodes: Iterable[Node]) -> str:
    return _end(b"".join(node.step.added for node in nodes).decode("utf-8", "replace"))


def _end(text: str) -> str:
    """The last words of a text in one line."""
    return one_line(("…" if len(text) > _SAID else "") + text[-_SAID:].replace("\n", "⏎"))


def _named(layer: int) -> str:
    return f"layer {layer}" if layer else "embedding"


def _levels(grid: PatchGrid) -> list[list[int]]:
    """A heat for each cell: a step for each eleventh of the way; else for each 0.5 of a logit."""
    if grid.share is not None:
        return [[_heat(share * (STEPS - 1)) for share in row] for row in grid.share]
    return [[_heat((value - grid.here) / 0.5) for value in row] for row in grid.difference]


def _heat(steps: float) -> int:
    if math.isnan(steps):
        return 0
    return round(max(1.0 - STEPS, min(STEPS - 1.0, steps)))


def _number(grid: PatchGrid, row: int, column: int) -> str:
    """The share of the way, or the difference if there is no way."""
    if grid.share is None:
        return f"{grid.difference[row][column]:+.1f}".replace("-", "−")[: _CELLS - 1]
    share = grid.share[row][column]
    if abs(share) >= 99.5:
        return "> 99" if share > 0 else "<−99"
    digits = 2 if abs(share) < 9.995 else 0
    return f"{round(share, digits) + 0.0:.{digits}f}".replace("-", "−")  # no −0.00


def _headings(
    place: Place, other: Other, grid: PatchGrid, where: tuple[range, int], looks: Looks
) -> list[Row]:
    """The tokens of this text; those that differ stand out."""
    shown, column = where
    row = [Segment(fit("layer", _NAME), looks.faint)]
    for each in shown:
        position = grid.positions[each]
        is_same = place.ids[position] == other.ids[position]
        style = looks.here if each == column else looks.faint if is_same else looks.top
        row.append(Segment(fit(f" {place.name(position)}", _CELLS), style))
    return [row]
