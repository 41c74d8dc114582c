"""The selected token: its numbers and what else it could have been; it knows no document."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from gpt.sanitize import one_line
from gpt.step import Step

_EIGHTHS = " ▏▎▍▌▋▊▉"
_LABEL = 10
_PERCENT = 7


class Inspector(Widget):
    """Probabilities of one token, the model's own beside those after the sampling settings."""

    BORDER_TITLE = "token"

    step: reactive[Step | None] = reactive(None)
    vocab_size: reactive[int] = reactive(0)

    def render(self) -> Text:
        """Plain rows: a bar and a number for every candidate."""
        lines = describe(self.step) if self.step else [("no token yet", "dim")]
        text = Text(no_wrap=True, overflow="ellipsis")
        for line, style in lines:
            text.append(line + "\n", style)
        if self.step and self.step.candidates:
            bar = max(2, (self.content_size.width - _LABEL - 2 * _PERCENT - 4) // 2)
            column = bar + 1 + _PERCENT
            heading = f"{'':{_LABEL + 2}}{'the model':{column}}after settings"
            text.append(heading + "\n", "bold")
            # Where the panel is low there are fewer candidates, and the rest is more.
            room = max(1, self.content_size.height - len(lines) - 3)
            for label, own, after, is_chosen in rows(self.step, self.vocab_size, room):
                text.append(
                    ("▸" if is_chosen else " ") + fit(label, _LABEL), "bold" if is_chosen else ""
                )
                text.append(" " + _bar(own, bar), "green")
                text.append(f" {percent(own):>{_PERCENT - 1}} ")
                if self.step.sampling_logprob is None:
                    text.append(" –\n", "dim")
                else:
                    text.append(_bar(after, bar), "cyan")
                    text.append(f" {percent(after):>{_PERCENT - 1}}\n", "dim" if not after else "")
        return text


def describe(step: Step) -> list[tuple[str, str]]:
    """The token's own numbers as (line, style)."""
    name = visible(step.bytes, step.token_id)
    lines = [(f"{name}   id {step.token_id}, position {step.position}", "bold")]
    if step.logprob is None or step.entropy is None:
        return [*lines, ("no token stands before it, so it has", ""), ("no probability", "")]
    among = math.exp(step.entropy)
    number = f"{among:,.0f}" if among >= 100 else f"{among:.3g}"
    lines.append((f"probability {percent(math.exp(step.logprob))}, rank {step.rank}", ""))
    lines.append((f"choosing among about {number} ({step.entropy:.2f} nats)", ""))
    if step.sampling_logprob is None:
        lines.append(("not drawn by this model", "dim"))
    else:
        lines.append((f"drawn at {percent(math.exp(step.sampling_logprob))} after settings", ""))
    return lines


def rows(step: Step, vocab_size: int, limit: int = 10) -> list[tuple[str, float, float, bool]]:
    """(label, the model's probability, probability after settings, is this the token?).

    The best candidates, at most limit, the token itself where it is not among them, and the
    rest of the vocabulary, so that each column sums to 1.
    """
    shown = [
        (
            visible(candidate.bytes, candidate.token_id),
            math.exp(candidate.logprob),
            _exp(candidate.sampling_logprob),
            candidate.token_id == step.token_id,
        )
        for candidate in step.candidates[:limit]
    ]
    if step.logprob is not None and not any(is_chosen for *_, is_chosen in shown):
        name = visible(step.bytes, step.token_id)
        shown.append((name, math.exp(step.logprob), _exp(step.sampling_logprob), True))
    rest = vocab_size - len(shown)
    if rest > 0:
        own = _left_over(row[1] for row in shown)
        after = _left_over(row[2] for row in shown)
        shown.append((f"{rest} more", own, after, False))
    return shown


def visible(data: bytes, token_id: int) -> str:
    """A token's bytes for a label: spaces and line breaks as signs, stray bytes as hexadecimal."""
    if not data:
        return f"<{token_id}>"
    text = data.decode("utf-8", "backslashreplace")
    return one_line(text).replace(" ", "·")


def percent(p: float) -> str:
    """Three digits; 0 % and 100 % only for what is impossible or certain."""
    if p in (0, 1):
        return f"{p:.0%}".replace("%", " %")
    if p < 0.0001:
        return "<.01 %"
    if p >= 0.9995:
        return ">99.9 %"
    return f"{100 * p:.{2 if p < 0.09995 else 1}f} %"


def _left_over(parts: Iterable[float]) -> float:
    """What is missing to 1; float32 probabilities miss it by a little where nothing is."""
    rest = 1 - math.fsum(parts)
    return rest if rest > 2e-6 else 0.0


def _exp(logprob: float | None) -> float:
    return 0.0 if logprob is None else math.exp(logprob)


def fit(label: str, width: int) -> str:
    """Exactly so many cells."""
    if cell_len(label) > width:
        label = set_cell_size(label, width - 1) + "…"
    return set_cell_size(label, width)


def _bar(p: float, width: int) -> str:
    whole, eighth = divmod(round(min(1.0, p) * width * 8), 8)
    return ("█" * whole + (_EIGHTHS[eighth] if eighth else "")).ljust(width)
