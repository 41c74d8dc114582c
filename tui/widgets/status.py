"""The line of facts about the model and the run."""

from __future__ import annotations

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from gpt.sanitize import one_line
from tui.backend import Loaded


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
        """The facts that are known."""
        text = Text(no_wrap=True, overflow="ellipsis").append(" gpt-tui ", "bold reverse")
        if self.model is None:
            text.append(f"  {one_line(self.waiting)}", "italic")
            return text
        facts = [
            f"{one_line(self.model.name)} {self.model.n_params / 1e6:.1f}M",
            f"{self.model.device} {self.model.dtype}" + " compiled" * self.model.compiled,
            f"context {self.used}/{self.model.block_size}",
        ]
        if self.speed is not None:
            facts.append(f"{self.speed:,.{0 if self.speed >= 100 else 1}f} tokens/s")
        if self.first is not None:
            facts.append(f"first after {1000 * self.first:,.0f} ms")
        if self.perplexity is not None:
            digits = 0 if self.perplexity >= 1000 else 2
            facts.append(f"perplexity {self.perplexity:,.{digits}f}")
        text.append("  " + " · ".join(facts))
        return text
