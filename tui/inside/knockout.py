"""The model's parts as switches: layers down; the layer, attention, heads and MLP across."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar, Literal

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType

from gpt.interventions import Edge, Intervention, Knockout, Part
from tui.inside.effects import ChangingView, prediction_question
from tui.inside.place import Place, Question
from tui.inside.sheet import Looks, Row, Sheet
from tui.labels import fit_one

_NAME = 4
"""Cells of a layer's number."""
_WHOLE: tuple[tuple[Part, str, int], ...] = (
    ("layer", "layer", 6),
    ("attention", "attn", 5),
    ("mlp", "MLP", 4),
)
"""The parts of a layer that are no heads, their headings and cells; heads are before the MLP."""
_SIGNS = {None: "●", "zero": "○", "mean": "◐"}
"""What replaces a part → its switch."""
_COVERED = "·"
"""The sign of a part whose layer is off."""
_NEXT: dict[str | None, Literal["zero", "mean"] | None] = {
    None: "zero",
    "zero": "mean",
    "mean": None,
}

Switch = tuple[Part, int, int | None]
"""(part, layer, head)"""


def toggled(changes: tuple[Intervention, ...], switch: Switch) -> tuple[Intervention, ...]:
    """The same changes with a part turned on: muted, then replaced by its mean, then on again."""
    part, layer, head = switch
    by = _NEXT[state_of(changes, switch)]
    others = tuple(each for each in changes if _switch(each) != switch)
    return others if by is None else (*others, Knockout(part=part, layer=layer, head=head, by=by))


def state_of(changes: tuple[Intervention, ...], switch: Switch) -> Literal["zero", "mean"] | None:
    """What replaces a part; None: it is on."""
    found = (each for each in changes if isinstance(each, Knockout) and _switch(each) == switch)
    return next((each.by for each in found), None)


def _switch(each: Intervention) -> Switch | None:
    return (each.part, each.layer, each.head) if isinstance(each, Knockout) else None


def with_edge(changes: tuple[Intervention, ...], edge: Edge) -> tuple[Intervention, ...]:
    """The same changes with an edge cut, or whole again if it was cut."""
    if edge in changes:
        return tuple(each for each in changes if each != edge)
    return (*changes, edge)


class KnockoutView(ChangingView):
    """Space turns a part off, to its mean, and on again; e cuts attention between two tokens."""

    NAME = "Mute"
    TITLE = "Mute parts: off, or replaced by their mean (knock-out)"
    HELP = "Space switch · ↑↓ h H part · e cut an edge · w write with it · x undo all"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "switch", "switch", id="look.switch"),
        Binding("h,shift+right", "part(1)", "next part", id="look.next_part"),
        Binding("H,shift+left", "part(-1)", "previous part", id="look.last_part", show=False),
        Binding("e", "edge", "cut an edge", id="look.edge"),
    ]
    _part = 0
    """The chosen column: the whole layer, attention, the heads, the MLP."""
    _source: int | None = None
    """Index of the token that another one must not see, while that one is chosen."""

    def questions(self, place: Place) -> Iterable[Question]:
        """The effect, also on the candidates of the selected token."""
        yield from super().questions(place)
        if place.changes and place.index:
            yield prediction_question(place)

    def switch(self, place: Place, column: int) -> Switch:
        """The part in a column of the chosen layer."""
        n = place.config.n_head
        if 2 <= column < n + 2:
            return "head", place.block, column - 1
        return _WHOLE[min(column, 2)][0], place.block, None

    def action_part(self, by: int) -> None:
        """Choose the next or previous part of the layer."""
        if self.place is not None:
            self._choose_part(self.place, (self._part + by) % (self.place.config.n_head + 3))

    def _choose_part(self, place: Place, column: int, layer: int | None = None) -> None:
        self._part = column
        head = self.switch(place, column)[2] or place.head
        self.redraw()
        self.change(replace(place, layer=layer or place.block, head=head))

    def action_switch(self) -> None:
        """Turn the chosen part off, to its mean, or on again."""
        if (place := self.place) is not None:
            switch = self.switch(place, self._part)
            self.change(replace(place, changes=toggled(place.changes, switch)))

    def action_edge(self) -> None:
        """Choose the token that is hidden, then the one that it is hidden from."""
        place = self.place
        if place is None:
            return
        if self._source is None:
            self._source = place.index
            self.redraw()
            return
        source, target = sorted((self._source, place.index))
        self._source = None
        part, layer, head = self.switch(place, self._part)
        edge = Edge(
            source=source,
            target=None if source == target else target,
            layer=None if part == "layer" else layer,
            head=head,
        )
        self.redraw()
        self.change(replace(place, changes=with_edge(place.changes, edge)))

    def action_clear(self) -> None:
        """Turn everything on again."""
        self._source = None
        super().action_clear()

    def sheet(self, place: Place, looks: Looks) -> Sheet | None:
        """A row of switches for each layer, and what they do below."""
        columns = Columns(place, self._part, looks.width)
        body = [self._switches(columns, place, layer, looks) for layer in columns.layers]
        foot = self.about(place, looks)
        if looks.height >= 6:
            said = fit_one(self._edge_said(place), looks.width)
            foot = [[Segment(said, looks.faint)], *foot]
        room = max(1, looks.height - len(foot) - 1)
        if room < min(3, len(body)):
            foot = foot[: max(0, looks.height - 4)]
        spare = looks.height - 1 - len(body) - len(foot)
        foot += self.prediction(place, looks, max(1, spare))
        return Sheet([columns.heading(looks)], body, foot, at=place.block - 1)

    def _switches(self, columns: Columns, place: Place, layer: int, looks: Looks) -> Row:
        is_row = layer == place.block
        row = [Segment(f"{layer:>{_NAME - 1}} ", looks.top if is_row else looks.faint)]
        is_skipped = state_of(place.changes, ("layer", layer, None)) is not None
        for column, cells in columns.shown:
            part, _, head = self.switch(place, column)
            state = state_of(place.changes, (part, layer, head))
            is_covered = is_skipped and column > 0
            style = _style(looks, state, is_covered=is_covered)
            if is_row and column == self._part:
                style = looks.here
            sign = _COVERED if is_covered and state is None else _SIGNS[state]
            sign = f"{sign:^{cells - 1}}"
            row += [Segment(sign, style), Segment(" ", looks.plain)]
        return row

    def _edge_said(self, place: Place) -> tuple[str, str]:
        """What e does, in two ways, the second one for a narrow window."""
        part, layer, head = self.switch(place, self._part)
        where = "in all layers" if part == "layer" else f"in layer {layer}"
        where += f" head {head}" if head else ""
        if self._source is None:
            name = place.name(place.index)
            signs = f'● on  ○ muted  ◐ mean  e hides "{name}" from later'
            return f"{signs} tokens, {where}", f"{signs} ones"
        name = place.name(self._source)
        if self._source == place.index:
            return (
                f'"{name}" is hidden from: every later token (e), or go to one and press e',
                f'"{name}" is hidden from all later (e), or go to one and e',
            )
        target = f'"{place.name(place.index)}" {where}: e'
        return (
            f'"{name}" at {self._source} is hidden from {target}',
            f'"{name}" is hidden from {target}',
        )

    def clicked(self, place: Place, x: int, row: int) -> None:
        """Choose the part under the mouse; a click on the chosen one turns its switch."""
        columns = Columns(place, self._part, self.content_size.width)
        column = columns.at(x)
        if column is None or not 0 <= row < place.config.n_layer:
            return
        if (column, row + 1) == (self._part, place.block):
            self.action_switch()
        else:
            self._choose_part(place, column, row + 1)


def _style(looks: Looks, state: str | None, *, is_covered: bool) -> Style:
    if state is not None:
        return looks.less if state == "zero" else looks.top
    return looks.faint if is_covered else looks.more


class Columns:
    """Which parts are shown, and how many cells each has."""

    def __init__(self, place: Place, chosen: int, width: int) -> None:
        n = place.config.n_head
        self.layers = range(1, place.config.n_layer + 1)
        cells = max(3, len(str(n)) + 1)
        fixed = _NAME + sum(each[2] for each in _WHOLE)
        count = max(1, min(n, (width - fixed) // cells))
        middle = min(max(1, chosen - 1), n)
        first = max(1, min(middle - count // 2, n - count + 1))
        heads = [(head + 1, cells) for head in range(first, first + count)]
        self._names = {0: _WHOLE[0][1], 1: _WHOLE[1][1], n + 2: _WHOLE[2][1]}
        self.shown = [(0, _WHOLE[0][2]), (1, _WHOLE[1][2]), *heads, (n + 2, _WHOLE[2][2])]
        self._chosen = chosen

    def heading(self, looks: Looks) -> Row:
        """The parts' names; heads have their numbers."""
        row = [Segment(" " * _NAME, looks.faint)]
        for column, cells in self.shown:
            name = self._names.get(column, str(column - 1))
            style = looks.top if column == self._chosen else looks.faint
            row.append(Segment(f"{name:^{cells - 1}} ", style))
        return row

    def at(self, x: int) -> int | None:
        """The column at this cell of a row."""
        left = _NAME
        for column, cells in self.shown:
            if left <= x < left + cells:
                return column
            left += cells
        return None
