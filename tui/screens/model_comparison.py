"""Two models read the same text, side by side; asks no model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import getters, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Static

from gpt.sanitize import one_line
from tui.align import align, bits_per_character
from tui.document import Node
from tui.heat import Scale, between, diverging
from tui.labels import visible
from tui.measure import measure
from tui.screens.dialog import Page
from tui.widgets.hints import Hints
from tui.widgets.inspector import Inspector
from tui.widgets.token_view import TokenView

DIVERGE = 1.0
"""Least KL divergence at a token, in bits, that counts as disagreement."""
APART = 3.0
"""The same for the difference of surprisals, if the vocabularies differ."""


@dataclass(frozen=True)
class Reading:
    """A text as one model's tokens with their probabilities."""

    model: str
    nodes: Sequence[Node]
    vocab_size: int


class ModelComparisonScreen(Page):
    """The text of each model with its selected token below; one cursor moves both."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back to the text", id="readings.back"),
        Binding("d", "disagreement(1)", "next disagreement", id="readings.next"),
        Binding("D", "disagreement(-1)", "previous disagreement", id="readings.last"),
        Binding("c", "colours", "change colouring", priority=True, id="readings.colours"),
    ]

    here = getters.query_one("#here", Static)

    def __init__(
        self, own: Reading, other: Reading, divergence: Sequence[float] | None, index: int = 0
    ) -> None:
        """index: of the own token that is selected at first."""
        super().__init__()
        self._index = index
        self._readings = own, other
        self._spans = align(*([node.step for node in each.nodes] for each in self._readings))
        self._is_divergence = divergence is not None
        if divergence is None:
            self._bits = [span.gap for span in self._spans]
        else:  # with the same vocabulary, every token is a stretch
            bits = [None, *(nats / math.log(2) for nats in divergence)]
            self._bits = bits + [None] * (len(self._spans) - len(bits))
        self._span_of = (
            [n for n, span in enumerate(self._spans) for _ in span.own],
            [n for n, span in enumerate(self._spans) for _ in span.other],
        )

    def compose(self) -> ComposeResult:
        """Facts above a column for each model."""
        yield Static(Content(one_line(self._facts())), id="facts")
        yield Static(id="here")
        with Horizontal():
            for reading in self._readings:
                with Vertical():
                    yield TokenView()
                    inspector = Inspector()
                    inspector.vocab_size = reading.vocab_size
                    yield inspector
        yield Hints()

    def on_mount(self) -> None:
        """Fill the columns."""
        for view, reading, spans in zip(
            self.query(TokenView), self._readings, self._span_of, strict=True
        ):
            view.show(reading.nodes)
            view.caption = reading.model
            view.set_scale(*self._scales(spans))
            view.action_select(0)
        first = self.query(TokenView).first()
        first.focus()
        first.action_select(self._index)
        self.call_after_refresh(self._show_here)

    def _scales(self, spans: Sequence[int]) -> list[Scale]:
        """Ways to colour a text whose tokens are in these stretches."""
        gaps = [self._spans[n].gap for n in spans]
        ahead = [None if gap is None else -gap for gap in gaps]
        own, other = (reading.model.rpartition("/")[2] for reading in self._readings)
        scales = [diverging("Which model finds it more probable", ahead, (other, own))]
        if self._is_divergence:
            bits = [self._bits[n] for n in spans]
            scales.insert(0, between("KL divergence between the models", bits))
        return scales

    def action_colours(self) -> None:
        """Colour both texts by the next scale."""
        for view in self.query(TokenView):
            view.action_colours()

    @on(TokenView.Selected)
    def _show_here(self) -> None:
        """Move the cursor of the other text to the same place."""
        views = list(self.query(TokenView))
        lead = 1 if self.focused is views[1] else 0
        index = views[lead].index
        if index is None:
            return
        span = self._spans[self._span_of[lead][index]]
        follow = span.other if lead == 0 else span.own
        if follow and views[1 - lead].index not in follow:
            views[1 - lead].action_select(follow.start)
        for view, inspector, reading in zip(
            views, self.query(Inspector), self._readings, strict=True
        ):
            node = None if view.index is None else reading.nodes[view.index]
            inspector.is_prompt = node is None or node.is_prompt
            inspector.step = node.step if node else None
        self.here.update(Content(one_line(self._said_of(index, lead))))

    def _said_of(self, index: int, lead: int) -> str:
        n = self._span_of[lead][index]
        span, bits = self._spans[n], self._bits[n]
        if span.own_nats is None or span.other_nats is None or bits is None:
            return "here: no number, as one of the models has no prediction for this place"
        own, other = span.own_nats / math.log(2), span.other_nats / math.log(2)
        text = visible(span.text, 0)
        here = f"here {text}: {own:.2f} bits and {other:.2f} bits"
        return here + (f", KL divergence {bits:.3f} bits" if self._is_divergence else "")

    def _facts(self) -> str:
        own, other = self._readings
        per_character = bits_per_character(self._spans)
        if per_character is None:
            return "no token has numbers from both models"
        facts = [
            f"{reading.model}: {bits:.3f} bits per character, perplexity {_perplexity(reading)}"
            for reading, bits in zip(self._readings, per_character, strict=True)
        ]
        known = [bits for bits in self._bits if bits is not None]
        if self._is_divergence and known:
            mean = math.fsum(known) / len(known)
            facts.append(f"KL({own.model} ‖ {other.model}) {mean:.3f} bits a token")
        facts.append(f"{sum(map(self._disagree, range(len(self._spans))))} disagreements")
        return " · ".join(facts)

    def _disagree(self, n: int) -> bool:
        bits = self._bits[n] if n < len(self._bits) else None
        return bits is not None and abs(bits) >= (DIVERGE if self._is_divergence else APART)

    def action_disagreement(self, by: int) -> None:
        """Select the next (1) or previous (-1) place where the models disagree."""
        view = self.query(TokenView).first()
        if view.index is None:
            return
        here = self._span_of[0][view.index]
        places = range(here + 1, len(self._spans)) if by > 0 else range(here - 1, -1, -1)
        found = next((n for n in places if self._disagree(n) and self._spans[n].own), None)
        if found is None:
            where = "after" if by > 0 else "before"
            self.notify(f"No disagreement {where} this token.", markup=False)
            return
        view.focus()
        view.action_select(self._spans[found].own.start)


def _perplexity(reading: Reading) -> str:
    found = measure([node.step for node in reading.nodes]).perplexity
    return "–" if found is None else f"{found:,.2f}"
