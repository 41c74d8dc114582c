"""Steering: a direction between two lists of texts, added to the stream; asks no model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from textwrap import wrap
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType

from gpt.errors import UserError
from gpt.interpret.effects import Directions
from gpt.interventions import Steer, check
from gpt.sanitize import one_line
from tui.bars import bar
from tui.inside.effects import ChangingView, effect_question
from tui.inside.numbers import plain_number
from tui.inside.place import Place, Question, question
from tui.inside.sheet import Looks, Row, Sheet
from tui.inside.wishes import Ask, Blank, Typed
from tui.labels import fit

BETWEEN = "|"
"""Sign between the texts of a list."""
STEP = 0.5
"""Strength that a key adds or takes away."""
_NORM, _NUMBER = 34, 12
"""Cells of the name of a norm and of its number."""


def texts_of(typed: str) -> tuple[str, ...]:
    """The texts of a list as it was typed; spaces at their ends count, but not around the sign."""
    parts = typed.split(BETWEEN)
    if len(parts) > 1:
        parts = [part.removesuffix(" ").removeprefix(" ") for part in parts]
    return tuple(part for part in parts if part)


def steer_of(place: Place) -> Steer | None:
    """The direction among the changes; the view has one."""
    return next((each for each in place.changes if isinstance(each, Steer)), None)


def with_steer(place: Place, steer: Steer | None) -> Place:
    """The place with this direction in place of the former one."""
    others = tuple(each for each in place.changes if not isinstance(each, Steer))
    return replace(place, changes=others if steer is None else (*others, steer))


def norms_question(place: Place, steer: Steer) -> Question:
    """How long the direction is, compared with the stream."""
    return question("steering", Directions, ids=place.ids, interventions=(steer,))


class SteerView(ChangingView):
    """Two lists of texts, a layer, a strength; what is added, compared with the stream."""

    NAME = "Steer"
    TITLE = "Steer: add a direction to the residual stream"
    HELP = "t texts · ↑↓ layer · + − strength · o last or mean · w write with it · x undo all"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "texts", "texts", id="look.texts"),
        Binding("plus", "strength(1)", "stronger", id="look.stronger"),
        Binding("minus", "strength(-1)", "weaker", id="look.weaker"),
        Binding("o", "over", "last or mean", id="look.over"),
    ]

    def questions(self, place: Place) -> Iterable[Question]:
        """The norms, then the effect."""
        if steer := steer_of(place):
            yield norms_question(place, steer)
        if place.changes:
            yield effect_question(place)

    def step(self, place: Place, by: int) -> Place:
        """The layer below or above, or the embedding; the direction moves with it."""
        steer = steer_of(place)
        layer = place.layer if steer is None else steer.layer
        layer = max(0, min(place.config.n_layer, layer + by))
        place = replace(place, layer=layer)
        return place if steer is None else with_steer(place, replace(steer, layer=layer))

    def action_texts(self) -> None:
        """Ask for the two lists of texts."""
        if self.place is None:
            return
        steer = steer_of(self.place)
        lists = [(), ()] if steer is None else [steer.towards, steer.away]
        blanks = [
            Blank(f"{name} (several texts: {BETWEEN} between them)", f" {BETWEEN} ".join(texts))
            for name, texts in zip(("towards", "away from"), lists, strict=True)
        ]
        self.post_message(
            Ask("Direction between two lists of texts", blanks, self._wrong, self._typed)
        )

    def _made_of(self, typed: list[Typed]) -> Steer:
        towards, away = (texts_of(each.text) for each in typed)
        layer = self.place.layer if self.place else 0
        steer = steer_of(self.place) if self.place else None
        if steer is None:
            return Steer(layer=layer, towards=towards, away=away)
        return replace(steer, towards=towards, away=away)

    def _wrong(self, typed: list[Typed]) -> str:
        if not all(texts_of(each.text) for each in typed):
            return "Type at least one text in each field"
        try:
            if self.place:
                check([self._made_of(typed)], self.place.config, 0)
        except UserError as error:
            return str(error)
        return ""

    def _typed(self, typed: list[Typed]) -> None:
        if self.place is not None:
            self.change(with_steer(self.place, self._made_of(typed)))

    def action_strength(self, by: int) -> None:
        """Make the direction stronger or weaker; below 0 it points the other way."""
        if self.place is not None and (steer := steer_of(self.place)):
            strength = max(-1e6, min(1e6, steer.strength + by * STEP))
            self.change(with_steer(self.place, replace(steer, strength=strength)))

    def action_over(self) -> None:
        """Take the stream at the last token of each text, or the mean over its tokens."""
        if self.place is not None and (steer := steer_of(self.place)):
            over = replace(steer, over="mean" if steer.over == "last" else "last")
            self.change(with_steer(self.place, over))

    def action_clear(self) -> None:
        """Add nothing any more; what is muted stays muted."""
        if self.place is not None:
            self.change(with_steer(self.place, None))

    def sheet(self, place: Place, looks: Looks) -> Sheet | None:
        """The direction above, its norms, and what it does."""
        steer = steer_of(place)
        if steer is None:
            said = "No direction yet: t asks for two lists of texts, such as one word each."
            head = [_line(each, looks, looks.plain) for each in wrap(said, max(1, looks.width))]
            return Sheet(head, foot=self.about(place, looks))
        over = "the last token of each text" if steer.over == "last" else "all tokens, its mean"
        layer = f"after layer {steer.layer}" if steer.layer else "after the embedding"
        head = [
            _line(f"towards    {_listed(steer.towards)}", looks, looks.plain),
            _line(f"away from  {_listed(steer.away)}", looks, looks.plain),
            _line(f"{layer} · the stream at {over}", looks, looks.plain),
            _strength(steer, looks),
        ]
        found = self.answers.get(norms_question(place, steer), Directions)
        body = _norms(found, place, looks) if found is not None and found.directions else []
        foot = self.about(place, looks)
        return Sheet(head, body, foot[: max(0, looks.height - len(head) - 2)])


def _listed(texts: tuple[str, ...]) -> str:
    return one_line(f" {BETWEEN} ".join(f'"{text}"' for text in texts).replace("\n", "⏎"))


def _line(text: str, looks: Looks, style: Style) -> Row:
    return [Segment(fit(text, looks.width), style)]


def _strength(steer: Steer, looks: Looks) -> Row:
    """The dial: from −8 to 8, with a mark."""
    label = f"strength {steer.strength:+g}".replace("-", "−")
    label = f"{label:<15}"
    cells = max(0, min(41, looks.width - len(label)))
    at = round((max(-8.0, min(8.0, steer.strength)) + 8) / 16 * (cells - 1)) if cells > 1 else 0
    line = "".join("●" if n == at else "│" if n == cells // 2 else "─" for n in range(cells))
    return [Segment(label, looks.top), Segment(line, looks.more)]


def _norms(found: Directions, place: Place, looks: Looks) -> list[Row]:
    """Lengths of what is added and of the stream, as bars of one measure."""
    each = found.directions[0]
    facts = [
        ("length of the direction |d|", each.direction_norm),
        ("added: |strength · d|", each.added_norm),
        ("stream, mean over the text", each.stream_norm),
        (f'stream at "{place.name(place.index - 1)}"', each.last_norm),
    ]
    most = max(value for _, value in facts)
    rows: list[Row] = []
    for n, (name, value) in enumerate(facts):
        label = f"{fit(name, _NORM)} {plain_number(value, 2):>{_NUMBER}} "
        cells = max(0, looks.width - len(label))
        style = looks.more if n < 2 else looks.less
        drawn = bar(value / most if most else 0.0, cells, style).plain if cells else ""
        rows.append([Segment(fit(label, min(len(label), looks.width)), looks.plain)])
        rows[-1].append(Segment(drawn, style))
    return rows
