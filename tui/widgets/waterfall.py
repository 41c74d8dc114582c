"""Table of what each sampling setting did to each candidate of one token; no document."""

from __future__ import annotations

import math
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.content import Content
from textual.reactive import reactive
from textual.widget import Widget

from gpt.capabilities import Capabilities
from gpt.interpret.answers import Row, Waterfall
from gpt.settings import Sampling
from gpt.step import Step
from tui.dials import STAGES
from tui.labels import fit, percent, visible

_COLUMN, _NARROWEST = 16, 9
_LABEL = 12
_NETWORKS = {"model": "whole", "interventions": "changed"}
"""Stage → the heading of its column where there are several networks."""
_ROUNDING = 1e-3
"""A probability up to this may be no more than rounding."""
_SHORTEST = 4
"""Letters of a name that are left of it next to its value."""


def as_drawn(found: Waterfall, step: Step, own: int | None, *, same_settings: bool) -> Waterfall:
    """The same table with the numbers of the Step, so that all panels show the same ones.

    New numbers may differ in the last digit: fast code and the network round differently.
    own: index of the stage that has the Step's own probabilities; None: none of them does.
    same_settings: the token was sampled with these settings, so the Step has the last column too.
    """
    if own is None:
        return found
    known: dict[int, tuple[float | None, float | None]] = {
        each.token_id: (each.logprob, each.sampling_logprob) for each in step.candidates
    }
    known[step.token_id] = step.logprob, step.sampling_logprob
    rows, rest = [], list(found.rest)
    for row in found.rows:
        before, after = known.get(row.token_id, (None, None))
        values = list(row.probabilities)
        if same_settings and after is not None:
            values[-1] = math.exp(after)
        if before is not None:
            values[own] = math.exp(before)
        rest = [r + old - new for r, old, new in zip(rest, row.probabilities, values, strict=True)]
        rows.append(row._replace(probabilities=tuple(values)))
    # What is only rounding is no probability of tokens that are gone.
    least = [0.0 if old else _ROUNDING for old in found.rest]
    rest = [new if new > most else 0.0 for new, most in zip(rest, least, strict=True)]
    return found._replace(rows=tuple(rows), rest=tuple(rest))


class WaterfallTable(Widget):
    """A row for every candidate, a column for every setting that has an effect."""

    BORDER_TITLE = "How each setting changes the probabilities"
    COMPONENT_CLASSES: ClassVar[set[str]] = {"waterfall--gone"}

    found: reactive[Waterfall | None] = reactive(None)
    why_empty: reactive[str] = reactive("")
    """Why there is no table."""
    chosen: reactive[int | None] = reactive(None)
    """Id of the token in the text."""
    names: reactive[dict[int, str]] = reactive(dict[int, str])
    """Id → name, of special tokens."""
    capabilities: reactive[Capabilities] = reactive(Capabilities())
    """What whoever runs the model can say of the probabilities."""
    vocab_size: reactive[int] = reactive(0)
    """0: unknown, so that tokens beyond the candidates cannot be counted."""
    settings: reactive[Sampling | None] = reactive(None)
    """What the columns were computed with."""
    has_networks: reactive[bool] = reactive(False)
    """Whether another network than the whole one read the token or writes now."""
    missing: reactive[tuple[str, ...]] = reactive(())
    """Labels of settings that act and that the candidates are too few to compute."""

    def watch_found(self, found: Waterfall | None) -> None:
        """Name the token that the random seed picks; a server picks by itself."""
        if found is None:
            self.border_subtitle = ""
            return
        said = ["▸ in the text"]
        if not self.capabilities.server:
            row = next(row for row in found.rows if row.token_id == found.drawn)
            name = self._label(row)
            said.append(f"⚄ picked by this random seed: {name}")
        if self.missing:
            said.append(f"not computed: {', '.join(self.missing)}")
        if self.capabilities.server and found.rest[0]:
            said.append(
                '"more" and "tokens left": also those without a row'
                if self.vocab_size
                else "rest: tokens that the server does not show"
            )
        self.border_subtitle = Content("   ".join(said))

    def watch_missing(self) -> None:
        """Say what is missing."""
        self.watch_found(self.found)

    def render(self) -> Text:
        """The table, with as many rows and columns as fit."""
        text = Text(no_wrap=True, overflow="ellipsis")
        found = self.found
        if found is None:
            return text.append(self.why_empty, "dim")
        columns, width = self._columns(found)
        names = [self._heading(found.stages[i], width) for i in columns]
        if len(columns) < len(found.stages):  # its numbers have the effects of hidden columns, too
            names[1] = "…" + self._heading(found.stages[columns[1]], width - 1)
        heading = "".join(f"{name[: width - 1]:>{width}}" for name in names)
        text.append(f"{'':{_LABEL + 2}}{heading}\n", "bold")
        shown = self._shown(found)
        gone = self.get_component_rich_style("waterfall--gone", partial=True)
        for row in shown:
            mark = "▸" if row.token_id == self.chosen else " "
            picked = "⚄" if row.token_id == self._picked(found) else " "
            style = "bold" if mark + picked != "  " else ""
            text.append(mark + fit(self._label(row), _LABEL) + picked, style)
            text.append_text(_cells(row, found.stages, (columns, width), gone))
        hidden = [row for row in found.rows if row not in shown]
        rest = [found.rest[i] + sum(row.probabilities[i] for row in hidden) for i in columns]
        n_rest = found.n_rest + len(hidden)
        is_counted = self.vocab_size or not self.capabilities.server
        label = fit(f"{n_rest:,} more" if is_counted else "rest", _LABEL)
        text.append(f" {label} " + "".join(f"{percent(p):>{width}}" for p in rest) + "\n", "dim")
        if not is_counted:
            return text
        left = "".join(f"{found.left[i]:>{width},}" for i in columns)
        return text.append(f" {fit('tokens left', _LABEL)} {left}", "dim")

    def _heading(self, stage: str, width: int) -> str:
        """The heading of a column: the setting, and its value if there is room."""
        known = STAGES | _NETWORKS if self.has_networks else STAGES
        name, value = known.get(stage, stage), getattr(self.settings, stage, None)
        if not isinstance(value, int | float):
            return name
        short = name[:_SHORTEST] if name.isalpha() else name
        ways = (f"{each} {value:g}" for each in (name, short))
        return next((each for each in ways if len(each) < width), name)

    def _label(self, row: Row) -> str:
        return visible(row.bytes, row.token_id, self.names.get(row.token_id, ""))

    def _picked(self, found: Waterfall) -> int | None:
        """The token that the random seed picks; None if a server picks."""
        return None if self.capabilities.server else found.drawn

    def _columns(self, found: Waterfall) -> tuple[list[int], int]:
        """Indices of the stages that fit, and the cells of each; the first and the last ones."""
        room = self.content_size.width - _LABEL - 2
        n = len(found.stages)
        fitting = min(n, max(2, room // _NARROWEST))
        width = max(_NARROWEST, min(_COLUMN, room // fitting))
        return [0, *range(n - fitting + 1, n)], width

    def _shown(self, found: Waterfall) -> list[Row]:
        """The rows that fit; always those of the text's token and of the picked one."""
        room = max(2, self.content_size.height - 3)
        wanted = (self.chosen, self._picked(found))
        needed = [row for row in found.rows if row.token_id in wanted]
        best = [row for row in found.rows if row not in needed][: room - len(needed)]
        return [row for row in found.rows if row in needed or row in best]


def _cells(row: Row, stages: tuple[str, ...], layout: tuple[list[int], int], gone: Style) -> Text:
    """Probabilities up to the stage that removed the token, which shows a cross."""
    text, (columns, width) = Text(), layout
    removed = len(stages) if row.removed_by is None else stages.index(row.removed_by)
    for i in columns:
        if i >= removed:
            text.append(f"{'✕ gone':>{width}}", gone)
            break
        text.append(f"{percent(row.probabilities[i]):>{width}}")
    return text.append("\n")
