"""The panel of the selected token: its numbers and its candidates; no document."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import ClassVar, NamedTuple

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual import events
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from gpt.capabilities import Capabilities
from gpt.step import Candidate, Step
from tui.bars import bar, full_bar
from tui.labels import (
    entropy_of,
    equally_likely,
    fit,
    name_of,
    percent,
    rank_of,
    without_number,
)

KEYS = 9
"""Number of candidates that a digit takes."""
_BY_TEMPLATE = "by the chat template"
YOURS = "given, not drawn"
"""Of a token that the person typed, took by a digit or let the model read."""
_LABEL = 12
_PERCENT = 7
_FACTS = 34
"""Cells of the facts if they stand next to the candidates."""


class Row(NamedTuple):
    """A candidate, or the rest of the vocabulary."""

    label: str
    own: float
    """The model's probability."""
    after: float | None
    """Probability after the sampling settings; None if unknown."""
    before: float | None = None
    """The same for the settings that the token was sampled with, if they are others."""
    is_chosen: bool = False
    """Whether it is the token in the text."""
    number: int = 0
    """The digit that takes it; 0 if there is none."""
    is_rest: bool = False
    """Whether it stands for all tokens without a row."""


class Inspector(Widget):
    """Probabilities at one position: the model's own and those after the sampling settings."""

    BORDER_TITLE = "Token"
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "inspector--model",
        "inspector--after",
        "inspector--before",
    }

    step: reactive[Step | None] = reactive(None)
    is_prompt: reactive[bool] = reactive(True)
    """The person wrote the token."""
    is_system: reactive[bool] = reactive(False)
    """It is a word of the system prompt."""
    vocab_size: reactive[int] = reactive(0)
    """0: unknown."""
    capabilities: reactive[Capabilities] = reactive(Capabilities())
    """What whoever read the token can say of it."""
    inside: reactive[str] = reactive("")
    """What was changed inside the network that read it, in words."""
    acting: reactive[str] = reactive("")
    """Which network `now` is of, if it is not the one that read the token."""
    now: reactive[Mapping[int, float] | None] = reactive(None)
    """Token id → its probability after the settings on the screen; None if the token was sampled
    with the same ones, or nobody knows."""
    now_own: reactive[Mapping[int, float] | None] = reactive(None)
    """Token id → the probability by the network that `now` is of, without any settings; None if
    that is the one that read the token."""
    numbers: frozenset[int] = frozenset()
    """Of the candidates that it shows."""

    def render(self) -> Text:
        """The facts, and a row with bars and numbers for every candidate."""
        step = self.step
        if step is None:
            return Text("No token yet", "dim")
        width, height = self.content_size
        is_low = height < 10 and width >= 2 * _FACTS
        is_served = bool(self.capabilities.server)
        width_of_facts = _FACTS if is_low else width
        yours = "system prompt" if self.is_system else YOURS
        facts = describe(step, self.is_prompt, width_of_facts, is_served=is_served, yours=yours)
        if self.inside:
            facts[1:1] = [Text(f"inside: {self.inside}", "bold")]
        if step.logprob is None:
            return Text("\n").join(facts)
        if is_low:
            found = self._candidates(step, width - _FACTS - 2, height)
            lines = [_beside(a, b) for a, b in zip_longest(facts, found, fillvalue=Text())]
        else:
            # A server's words are longer.
            most = 2 if height < 9 else 5 if is_served and height > 14 else 3
            facts = facts[: most + bool(self.inside)]
            lines = facts + self._candidates(step, width, height - len(facts))
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)

    def _candidates(self, step: Step, width: int, height: int) -> list[Text]:
        """A heading and the rows."""
        # A low panel shows fewer candidates and counts the others.
        room = max(2, height - 2)
        shown = rows(step, self.vocab_size, room, self.now)
        if len(shown) >= height:  # the token itself is not among them
            shown = rows(step, self.vocab_size, room - 1, self.now)
        self.numbers = frozenset(row.number for row in shown)
        both = any(row.after is not None for row in shown)
        label = min(_LABEL, max(cell_len(row.label) for row in shown))
        columns = 1 + both
        cells = max(2, (width - label - 3) // columns - _PERCENT - 2)
        lines = [Text(self._heading(label + 3, cells + _PERCENT + 2, both=both), "bold")]
        for row in shown:
            lines.append(self._row(row, label, cells, both=both))
        return lines

    def _heading(self, indent: int, column: int, *, both: bool) -> str:
        """What the numbers of each column are."""
        own: tuple[str, ...] = ("changed model", "changed") if self.inside else ("model",)
        acting = self.acting if self.now is not None else ""
        if acting and not self.inside:
            own = "whole model", "whole"
        first = own if self.capabilities.is_raw else ("after the server's settings", "server's")
        second: tuple[str, ...] = ("after sampling", "sampling")
        if self.now is not None:
            second = "these settings", "settings"
            if acting:
                second = f"{acting} model, sampled", f"{acting}, sampled", acting
        left, right = (_longest(names, column - 1) for names in (first, second))
        start = column
        if acting and both and len(right) < len(second[1]):
            # Which network and that it is sampled needs a part of the other column's heading.
            left, right = first[-1], second[1]
            start = max(len(left) + 1, 2 * column - 1 - len(right))
        return f"{'':{indent}}{fit(left, start - 1)} {right if both else ''}"

    @property
    def full_bar(self) -> float:
        """The probability of a full bar: the best candidates nearly fill it."""
        step = self.step
        if step is None:
            return 1.0
        logprobs = [p for each in step.candidates for p in (each.logprob, each.sampling_logprob)]
        known = [
            math.exp(p) for p in (*logprobs, step.logprob, step.sampling_logprob) if p is not None
        ]
        return full_bar([*known, *(self.now or {}).values()])

    def watch_step(self) -> None:
        """Say what a full bar means."""
        if self.step is None:
            self.border_subtitle = ""
            return
        has_bound = self.step.entropy is not None and self.step.entropy_is_bound
        self.border_subtitle = Content(
            "≥ at least · " * has_bound + f"full bar {self.full_bar:.0%}"
        )

    watch_now = watch_step

    def _row(self, row: Row, label: int, cells: int, *, both: bool) -> Text:
        most = self.full_bar
        number = f"{row.number or ' '}{'▸' if row.is_chosen else ' '}"
        text = Text(number + fit(row.label, label) + " ", "bold" if row.is_chosen else "")
        styles = [
            self.get_component_rich_style(f"inspector--{name}", partial=True)
            for name in ("model", "after", "before")
        ]
        if row.is_rest:  # it is no candidate, and its bar would dwarf the others
            cells_of_bars = " " * cells
            after = "" if row.after is None else f"{cells_of_bars} {percent(row.after):>{_PERCENT}}"
            return text.append(f"{cells_of_bars} {percent(row.own):>{_PERCENT}} {after}", "dim")
        text.append_text(bar(row.own / most, cells, styles[0]))
        text.append(f" {percent(row.own):>{_PERCENT}} ")
        if row.after is not None:
            before = None if row.before is None else row.before / most
            text.append_text(bar(row.after / most, cells, styles[1], before, styles[2]))
            text.append(f" {percent(row.after):>{_PERCENT}}", "" if row.after else "dim")
        elif both:
            text.append(f"{'–':>{cells + 1 + _PERCENT}}", "dim")
        if row.number:
            text.stylize(Style.from_meta({"candidate": row.number}))
        return text

    async def on_click(self, event: events.Click) -> None:
        """Take the candidate under the mouse, like its digit."""
        if number := event.style.meta.get("candidate"):
            await self.run_action(f"screen.take({number})")


def _longest(names: Sequence[str], width: int) -> str:
    """The first of these names that fits."""
    return next((name for name in names if len(name) <= width), names[-1])


def _beside(fact: Text, row: Text) -> Text:
    """A line of facts, and a row of the candidates at its right."""
    fact = fact.copy()
    fact.truncate(_FACTS, overflow="ellipsis", pad=True)
    return Text.assemble(fact, "  ", row)


def _term(text: str, term: str) -> tuple[str, Style]:
    """Words that open the glossary when they are clicked."""
    return text, Style.from_meta({"@click": f"app.help({term!r})"})


def describe(
    step: Step,
    is_prompt: bool = True,
    width: int = 80,
    *,
    is_served: bool = False,
    yours: str = YOURS,
) -> list[Text]:
    """The numbers of a token, as lines of at most this width; the first ones matter most.

    is_served: a server drew it, which tells no probabilities after the settings. yours: what a
    person's token is called.
    """
    name = name_of(step)
    first = Text.assemble(
        (f'"{name}"', "bold"), _term(f"  id {step.token_id} · position {step.position}", "token")
    )
    if step.logprob is None:
        said = [first, Text(without_number(step))]
        return [*said, Text(_BY_TEMPLATE, "dim")] if step.by_template else said
    likely = (
        _term(f"P = {percent(math.exp(step.logprob))}", "probability"),
        _term(f"   rank {rank_of(step)}", "rank"),
    )
    among_others = _term(equally_likely(step), "equally likely")
    if step.sampling_logprob is None:
        other = "drawn by the server" if is_served else "not sampled by this model"
        yours = _BY_TEMPLATE if step.by_template else yours
        drawn = _term(yours if is_prompt else other, "token")
    else:
        drawn = _term(f"drawn with P = {percent(math.exp(step.sampling_logprob))}", "sampling")
    entropy = _term(entropy_of(step), "entropy")
    lines = [
        Text.assemble(*likely, "   ", among_others),
        Text.assemble(drawn, " · ", entropy, style="dim"),
    ]
    if max(line.cell_len for line in lines) > width:
        lines = [
            Text.assemble(*likely),
            Text.assemble(among_others),
            Text.assemble(entropy, style="dim"),
            Text.assemble(drawn, style="dim"),
        ]
    return [first, *lines]


def rows(
    step: Step,
    vocab_size: int,
    limit: int = 10,
    now: Mapping[int, float] | None = None,
    own: Mapping[int, float] | None = None,
) -> list[Row]:
    """The best candidates, at most `limit`; the token itself if it is not among them; and the rest
    of the vocabulary, so that each column sums to 1.

    now: token id → probability after other settings than those the token was sampled with. own: the
    model's probabilities, if they are of another network than the step.
    """
    shown = [
        _row(candidate, candidate.logprob, i)
        for i, candidate in enumerate(step.candidates[:limit], 1)
    ]
    ids = [candidate.token_id for candidate in step.candidates[:limit]]
    if step.logprob is not None and step.token_id not in ids:
        ids.append(step.token_id)
        numbers = (i for i, each in enumerate(step.candidates, 1) if each.token_id == step.token_id)
        number = next(numbers, 0)
        shown.append(_row(step, step.logprob, number))
    was_sampled = step.sampling_logprob is not None
    found = []
    for token_id, row in zip(ids, shown, strict=True):
        after, before = row.after if was_sampled else None, None
        if now is not None:
            after, before = now.get(token_id), after
        by_model = row.own if own is None else own.get(token_id, row.own)
        found.append(Row(row.label, by_model, after, before, token_id == step.token_id, row.number))
    left = _left_over(row.own for row in found)
    rest = vocab_size - len(found)
    if rest > 0 or (not vocab_size and left):
        afters = [row.after for row in found]
        after = None if None in afters else _left_over(p for p in afters if p is not None)
        found.append(Row(f"{rest:,} more" if vocab_size else "rest", left, after, is_rest=True))
    return found


def _row(token: Step | Candidate, logprob: float, number: int) -> Row:
    after = 0.0 if token.sampling_logprob is None else math.exp(token.sampling_logprob)
    key = number if number <= KEYS else 0
    return Row(name_of(token), math.exp(logprob), after, number=key)


def _left_over(parts: Iterable[float]) -> float:
    """1 minus the sum; 0 if the difference is only float32 rounding."""
    rest = 1 - math.fsum(parts)
    return rest if rest > 2e-6 else 0.0
