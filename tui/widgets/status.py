"""The line of facts about the model and the run."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from gpt.sanitize import one_line
from tui.backend import Loaded

SEPARATOR = " · "


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
    used: reactive[int] = reactive(0)
    """Number of tokens of the text."""

    def render(self) -> Text:
        """The facts that fit, in one line; the least important ones go first."""
        text = Text(no_wrap=True, overflow="ellipsis").append(" gpt-tui ", "bold reverse")
        if self.model is None:
            return text.append(f"  {one_line(self.waiting)}", "italic")
        room = self.size.width - cell_len(text.plain) - 3
        facts = list(self._facts(self.model))
        while len(facts) > 1 and cell_len(SEPARATOR.join(facts)) > room:
            facts.pop()
        return text.append("  " + SEPARATOR.join(facts))

    def _facts(self, model: Loaded) -> Iterator[str]:
        """What is known, the most important first."""
        yield f"{one_line(model.name)} {model.n_params / 1e6:.1f}M"
        if self.perplexity is not None:
            digits = 0 if self.perplexity >= 1000 else 2
            yield f"perplexity {self.perplexity:,.{digits}f}"
        if self.speed is not None:
            yield f"{self.speed:,.{0 if self.speed >= 100 else 1}f} tokens/s"
        if self.used > model.block_size:  # it slides
            yield f"{self.used:,} tokens, context {model.block_size}"
        else:
            yield f"context {self.used}/{model.block_size}"
        cost = model.divergence.get(model.dtype) if model.device == "cpu" else None
        known = "" if cost is None else f" (KL {cost:.1g})"
        yield f"{model.device} {model.dtype}{known}" + " compiled" * model.compiled
        if self.first is not None:
            yield f"first after {1000 * self.first:,.0f} ms"
