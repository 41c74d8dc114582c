"""The line of facts about the model and the run."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from gpt.sanitize import one_line
from tui.backend import Loaded
from tui.labels import fit, model_name, server_at

SEPARATOR = " · "
RESTORE = "screen.whole_network"
"""The action that ends the changes inside the network."""
_BEFORE_DEVICE = 4
"""Facts that come before where the model runs: these are said in full if they have room."""
_BEFORE_UNDO = 3
"""Facts that are more important than how to undo a change."""
_SHORTEST = 8
"""Cells that a model's name keeps next to the address of its server."""


class Status(Widget):
    """Model, device, dtype, speed, perplexity, context."""

    model: reactive[Loaded | None] = reactive(None)
    waiting: reactive[str] = reactive("")
    """What the model is doing until it is ready."""
    speed: reactive[float | None] = reactive(None)
    """Tokens per second of the latest run."""
    first: reactive[float | None] = reactive(None)
    """Seconds from the request to the first token of the latest run."""
    perplexity: reactive[float | None] = reactive(None)
    is_of_drawn: reactive[bool] = reactive(True)
    """Whether the perplexity is that of the tokens that the model has drawn, and not of all."""
    networks: reactive[int] = reactive(1)
    """How many networks these tokens come from: of several, the perplexity is a mixture."""
    used: reactive[int] = reactive(0)
    """Number of tokens of the text."""
    inside: reactive[str] = reactive("")
    """What is changed inside the network, in a few words."""
    inside_short: reactive[str] = reactive("")
    """The same for where the most important facts would not have room."""
    undo: reactive[str] = reactive("")
    """How to undo that, if it is possible now; said if the most important facts have room too."""

    def render(self) -> Text:
        """The facts that fit, in one line; the least important ones go first."""
        text = Text(no_wrap=True, overflow="ellipsis").append(" gpt-tui ", "bold reverse")
        if self.model is None:
            return text.append(f"  {one_line(self.waiting)}", "italic")
        room = self.size.width - cell_len(text.plain) - 3
        facts = list(self._facts(self.model, says_drawn=False))
        if self.inside:  # nobody may take its text for that of the whole network
            restore = Style(bold=True, reverse=True) + Style.from_meta({"@click": RESTORE})
            undo = SEPARATOR + self.undo if self.undo else ""
            needed = cell_len(SEPARATOR.join(facts[:_BEFORE_UNDO])) + 3
            ways = (self.inside + undo, self.inside)
            inside = next((w for w in ways if cell_len(w) + needed <= room), self.inside_short)
            room -= cell_len(inside) + 3
            text.append(" ").append(f" {inside} ", restore)
        all_said = list(self._facts(self.model, says_drawn=True))
        if cell_len(SEPARATOR.join(all_said[:_BEFORE_DEVICE])) <= room:
            facts = all_said
        kept = 2 if self.model.capabilities.server else 1  # a server is never hidden
        while len(facts) > kept and cell_len(SEPARATOR.join(facts)) > room:
            facts.pop()
        too_long = cell_len(SEPARATOR.join(facts)) - room
        if kept > 1 and too_long > 0:
            facts[0] = fit(facts[0], max(_SHORTEST, cell_len(facts[0]) - too_long))
        return text.append("  " + SEPARATOR.join(facts))

    def _facts(self, model: Loaded, *, says_drawn: bool) -> Iterator[str]:
        """What is known, the most important first. says_drawn: whether it says that the perplexity
        is of drawn tokens, as it usually is."""
        n = model.n_params
        size = f" {n / 1e6:,.1f}M" if n >= 1e6 else f" {n / 1e3:.1f}K" if n >= 1e3 else ""
        yield model_name(model.name) + size
        if model.capabilities.server:
            yield server_at(model.capabilities)
        if not model.block_size:
            yield f"context {self.used:,}"
        elif self.used > model.block_size:  # it slides
            yield f"{self.used:,} tokens, context {model.block_size}"
        else:
            yield f"context {self.used}/{model.block_size}"
        if self.perplexity is not None:
            digits = 0 if self.perplexity >= 1000 else 2
            if self.networks > 1:
                whose = f" ({self.networks} networks)"
            else:
                whose = " (all)" if not self.is_of_drawn else " (drawn)" * says_drawn
            yield f"perplexity {self.perplexity:,.{digits}f}{whose}"
        if self.speed is not None:
            yield f"{self.speed:,.{0 if self.speed >= 100 else 1}f} tokens/s"
        if not model.capabilities.server:
            yield _device(model)
        if self.first is not None:
            yield f"first after {1000 * self.first:,.0f} ms"


def _device(model: Loaded) -> str:
    """Where the model runs, and what its dtype costs."""
    cost = model.divergence.get(model.dtype) if model.device == "cpu" else None
    known = "" if cost is None else f" (KL {cost:.1g})"
    return f"{model.device} {model.dtype}{known}" + " compiled" * model.compiled
