"""All heads at a glance: where each looks, and what kind of head it seems to be; asks no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

from textual.binding import Binding, BindingType

from gpt.interpret.looks import Heads, HeadScores
from tui.heat import Scale, attention_scale
from tui.inside.head_strips import (
    KINDS,
    NAME,
    SIDE,
    chosen_head,
    definitions,
    matrix,
    ranking,
    shown_heads,
)
from tui.inside.place import Place, Question, of_drawn
from tui.inside.sheet import Looks, Sheet
from tui.inside.view import InsideView

_WIDE = 90
"""Cells of a view that has the list next to the strips."""


def heads_question(place: Place, *, scores: bool) -> Question:
    """The weights of all heads for the token before the selected one.

    scores: also those of the kinds, which cost a pass over the whole context.
    """
    return of_drawn(place, "heads", Heads, ids=place.ids, scores=scores)


def head_scale(place: Place, weights: Sequence[float]) -> Scale:
    """The text by the weights of a head."""
    title = f"Attention of layer {place.block}, head {place.head}"
    return attention_scale(title, place.nodes[: place.index + 1], weights)


def other_head(place: Place, by: int) -> Place:
    """The next or previous head; after the last one of a layer comes the first."""
    head = (place.head - 1 + by) % place.config.n_head + 1
    return replace(place, layer=place.block, head=head)


HEAD_KEYS = (
    Binding("h,shift+right", "head(1)", "next head", id="look.next_head"),
    Binding("H,shift+left", "head(-1)", "previous head", id="look.last_head", show=False),
)


class HeadsView(InsideView):
    """A strip for each head over the context: layers down, heads across; or the best of a kind."""

    NAME = "Heads"
    TITLE = "Heads: where each looks"
    OF = "whose"
    HELP = "↑↓ layer · h H head · s by kind · d kinds"
    BINDINGS: ClassVar[list[BindingType]] = [
        *HEAD_KEYS,
        Binding("s", "sort", "by kind", id="look.sort"),
        Binding("d", "define", "kinds", id="look.define"),
    ]
    _kind = ""
    """The kind whose best heads are listed; empty: all heads in their place."""
    _seeks_best = False
    """The best head of the kind is to be chosen."""
    _defines = False

    def questions(self, place: Place) -> Iterable[Question]:
        """All heads at once, then what kinds they are."""
        return heads_question(place, scores=False), heads_question(place, scores=True)

    def _found(self, place: Place) -> Heads | None:
        """All that is known of the heads."""
        found = self.answers.get(heads_question(place, scores=False), Heads)
        if found is None or not found.weights:
            return None
        scored = self.answers.get(heads_question(place, scores=True), Heads)
        return replace(found, scores=scored.scores) if scored else found

    @property
    def title(self) -> str:
        """What it is; the kind, if the heads are sorted by one."""
        return f"Heads: {KINDS[self._kind].heads} first" if self._kind else self.TITLE

    def scale(self, place: Place) -> Scale | None:
        """The text by the weights of the chosen head."""
        found = self._found(place)
        if found is None:
            return None
        return head_scale(place, found.weights[place.block - 1][place.head - 1])

    def action_head(self, by: int) -> None:
        """Choose the next or previous head."""
        if self.place is not None:
            chosen = other_head(self.place, by)
            self.choose(layer=chosen.layer, head=chosen.head)

    def action_sort(self) -> None:
        """List the best heads of the next kind; after the last kind, all heads in their place."""
        kinds = ["", *KINDS]
        self._kind = kinds[(kinds.index(self._kind) + 1) % len(kinds)]
        self._seeks_best = bool(self._kind)
        self.changed()

    def redraw(self) -> None:
        """Draw again; choose the best head of a kind as soon as it is known."""
        super().redraw()
        if self._seeks_best and self.place and (best := self._ranked(self.place)):
            self._seeks_best = False
            self.choose(layer=best[0].layer, head=best[0].head)

    def action_define(self) -> None:
        """Show what the kinds of heads are, or the heads again."""
        self._defines, self._top = not self._defines, 0
        self.changed()

    def _ranked(self, place: Place) -> list[HeadScores]:
        """All heads with a score of the kind, best first."""
        found = self._found(place)
        known = [s for s in found.scores if getattr(s, self._kind) is not None] if found else []
        return sorted(known, key=lambda s: -getattr(s, self._kind))

    def step(self, place: Place, by: int) -> Place:
        """The layer below or above; in a sorted list, the next head of the list."""
        if not self._kind:
            return super().step(place, by)
        ranked = [(each.layer, each.head) for each in self._ranked(place)]
        if not ranked:
            return place
        here = place.block, place.head
        at = ranked.index(here) + by if here in ranked else 0
        layer, head = ranked[max(0, min(len(ranked) - 1, at))]
        return replace(place, layer=layer, head=head)

    def sheet(self, place: Place, looks: Looks) -> Sheet | None:
        """The strips, with the chosen head's numbers next to them or below."""
        found = self._found(place)
        if found is None:
            return None
        if self._defines:
            return definitions(looks)
        is_wide = looks.width >= _WIDE
        part = replace(looks, width=looks.width - SIDE - 2) if is_wide else looks
        if self._kind:
            sheet = ranking(found, self._ranked(place), self._kind, place, part)
        else:
            sheet = matrix(found, place, part)
        if is_wide:
            sheet.side = chosen_head(found, place, replace(looks, width=SIDE))
            sheet.side_at = part.width + 2
        else:
            room = looks.height - len(sheet.head) - min(len(sheet.body), 3)
            sheet.foot = chosen_head(found, place, looks)[: max(0, room)]
        return sheet

    def clicked(self, place: Place, x: int, row: int) -> None:
        """Choose the head under the mouse."""
        found = self._found(place)
        if found is None or row < 0 or self._defines:
            return
        if self._kind:
            ranked = self._ranked(place)
            if row < len(ranked):
                self.choose(layer=ranked[row].layer, head=ranked[row].head)
            return
        width = self.content_size.width
        shown, cells = shown_heads(place, width - (SIDE + 2) * (width >= _WIDE))
        n = (x - NAME) // cells
        if x >= NAME and n < len(shown) and row < len(found.weights):
            self.choose(layer=row + 1, head=shown[n] + 1)
