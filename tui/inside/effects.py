"""What the changes inside do to the text: a base for the views that make them; asks no model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from rich.segment import Segment
from textual.binding import Binding, BindingType

from gpt.interpret.answers import Row as Candidate
from gpt.interpret.answers import Waterfall
from gpt.interpret.effects import Effect
from gpt.interventions import describe
from tui.changes import said
from tui.heat import Scale, between
from tui.inside.numbers import flowing
from tui.inside.place import Place, Question, question
from tui.inside.sheet import Looks, Row
from tui.inside.view import InsideView
from tui.inside.wishes import WriteWith
from tui.labels import fit, fit_one, percent, visible

_BITS = math.log(2)
"""Nats of a bit."""
_LABEL, _COLUMN = 14, 12
"""Cells of a candidate's name, and of a probability."""
_CANDIDATES = 5
_WORDS = 3
"""Most rows of words about what is changed."""


def effect_question(place: Place) -> Question:
    """What the changes do to every token of the text."""
    ids = place.ids_to(len(place.nodes))
    return question("effect", Effect, ids=ids, interventions=place.changes)


def prediction_question(place: Place) -> Question:
    """What the changes do to the distribution of the selected token."""
    fields = {"ids": place.ids, "chosen": place.step.token_id, "interventions": place.changes}
    return question("waterfall", Waterfall, **fields)


class ChangingView(InsideView):
    """Base of the views that change the network; the text has the colour of the effect."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("w", "write", "write with it", id="look.write_with"),
        Binding("x", "clear", "undo all", id="look.clear"),
    ]

    def questions(self, place: Place) -> Iterable[Question]:
        """The effect, if anything is changed."""
        return (effect_question(place),) if place.changes else ()

    def scale(self, place: Place) -> Scale | None:
        """The text by how far each token's distribution has moved."""
        found = self.answers.get(effect_question(place), Effect) if place.changes else None
        if found is None:
            return None
        bits = [None if nats is None else nats / _BITS for nats in found.divergence]
        return between("KL divergence, network as it is ‖ changed", bits)

    def change(self, place: Place) -> None:
        """Show another place, whose changes may differ."""
        self.place = place  # at once: the next key may have come together with this one
        self.post_message(self.Chose(place))

    def action_write(self) -> None:
        """Let the model continue the text with what is changed here."""
        if self.place is not None:
            self.post_message(WriteWith(self.place.changes))

    def action_clear(self) -> None:
        """Change nothing any more, neither here nor when the model writes."""
        if self.place is not None:
            self.change(replace(self.place, changes=()))
            if self.place.acting:
                self.post_message(WriteWith(()))

    def about(self, place: Place, looks: Looks) -> list[Row]:
        """What is changed, what that does to the text and to the token, and who writes with it."""
        words = [describe(each) for each in place.changes] or ["nothing is changed"]
        found = self.answers.get(effect_question(place), Effect) if place.changes else None
        room = 1 if looks.height < 10 else _WORDS
        rows: list[Row] = [
            [Segment(fit(line, looks.width), looks.top)]
            for line in flowing(words, looks.width, room)
        ]
        if found is not None:
            rows += [
                [Segment(fit(line, looks.width), looks.plain)]
                for line in flowing(_numbers(found, place), looks.width, 2)
            ]
        if looks.height >= 8:
            rows.append([Segment(fit_one(_writer(place), looks.width), looks.faint)])
        return rows

    def prediction(self, place: Place, looks: Looks, room: int) -> list[Row]:
        """The best candidates of the network as it is and of the changed one, in so many rows."""
        if not place.changes or not place.index or room < 1:
            return []
        found = self.answers.get(prediction_question(place), Waterfall)
        if found is None:
            return []
        chosen = place.step.token_id
        known = [self._agreed(row, place) if row.token_id == chosen else row for row in found.rows]
        best = sorted(known, key=lambda row: -max(row.probabilities))
        if room < 3:  # one line
            parts = [f"{_name(row, chosen)} {_both(row)}" for row in best]
            line = flowing(["prediction", *parts], looks.width, 1)
            return [[Segment(fit(each, looks.width), looks.plain)] for each in line]
        heading = f"{'prediction':{_LABEL}}{'as it is':>{_COLUMN}}{'changed':>{_COLUMN}}"
        rows: list[Row] = [[Segment(fit(heading, looks.width), looks.faint)]]
        for row in best[: min(room - 1, _CANDIDATES)]:
            before, after = row.probabilities[0], row.probabilities[-1]
            style = looks.more if after > before else looks.less
            numbers = f"{percent(before):>{_COLUMN}}", f"{percent(after):>{_COLUMN}}"
            label = Segment(fit(_name(row, chosen), _LABEL), looks.plain)
            rows.append([label, Segment(numbers[0], looks.plain), Segment(numbers[1], style)])
        return rows

    def _agreed(self, row: Candidate, place: Place) -> Candidate:
        """The selected token with the probabilities that the line above has.

        They are of a pass over the whole text, which in 16 bits rounds differently from one over a
        token; but a screen should have one number for one probability.
        """
        effect = self.answers.get(effect_question(place), Effect)
        both = effect and (effect.before[place.index], effect.after[place.index])
        if not both or None in both:
            return row
        before, after = (math.exp(nats or 0.0) for nats in both)
        return row._replace(probabilities=(before, *row.probabilities[1:-1], after))


def _name(row: Candidate, chosen: int) -> str:
    return ("▸" if row.token_id == chosen else " ") + visible(row.bytes, row.token_id)


def _both(row: Candidate) -> str:
    return " → ".join(percent(p) for p in (row.probabilities[0], row.probabilities[-1]))


def _numbers(found: Effect, place: Place) -> list[str]:
    """The mean over the text, and the numbers of the selected token."""
    known = [nats for nats in found.divergence if nats is not None]
    mean = math.fsum(known) / len(known) / _BITS if known else 0.0
    facts = [f"mean KL {mean:.4f} bits over {len(known)} tokens"]
    here, before, after = (
        numbers[place.index] for numbers in (found.divergence, found.before, found.after)
    )
    if here is None or before is None or after is None:
        return facts
    p = f"{percent(math.exp(before))} → {percent(math.exp(after))}"
    return [*facts, f'"{place.name(place.index)}": P {p}, KL {here / _BITS:.4f} bits']


def _writer(place: Place) -> tuple[str, str]:
    """Whether the model continues the text with what is changed here, in two ways."""
    now = said(place.acting) or "the whole network"
    if place.acting == place.changes:
        return f"The model writes with this: {now}.", f"It writes with this: {now}."
    now = f"{now}; w changes it to this."
    return f"The model writes with {now}", f"It writes with {now}"
