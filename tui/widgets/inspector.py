"""The panel of the selected token: its numbers and its candidates; no document."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from gpt.step import Step
from tui.labels import fit, percent, visible

_EIGHTHS = " ▏▎▍▌▋▊▉"
_LABEL = 10
_PERCENT = 7


class Inspector(Widget):
    """Probabilities at one position: the model's own and those after the sampling settings."""

    BORDER_TITLE = "Token"

    step: reactive[Step | None] = reactive(None)
    is_prompt: reactive[bool] = reactive(True)
    """The person wrote the token."""
    vocab_size: reactive[int] = reactive(0)

    def render(self) -> Text:
        """A row with a bar and a number for every candidate."""
        lines = describe(self.step, self.is_prompt) if self.step else [("No token yet", "dim")]
        text = Text(no_wrap=True, overflow="ellipsis")
        for line, style in lines:
            text.append(line + "\n", style)
        if self.step and self.step.candidates:
            bar = max(2, (self.content_size.width - _LABEL - 2 * _PERCENT - 4) // 2)
            column = bar + 1 + _PERCENT
            heading = f"{'':{_LABEL + 2}}{'model':{column}}after settings"
            text.append(heading + "\n", "bold")
            # A low panel shows fewer candidates and counts the others.
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


def describe(step: Step, is_prompt: bool = True) -> list[tuple[str, str]]:
    """The numbers of a token, as (line, style)."""
    name = visible(step.bytes, step.token_id)
    lines = [(f"{name}   id {step.token_id}, position {step.position}", "bold")]
    if step.logprob is None or step.entropy is None:
        return [*lines, ("First token: nothing to predict it from", "")]
    among = math.exp(step.entropy)
    number = f"{among:,.0f}" if among >= 10 else f"{among:.2g}"
    lines.append((f"probability {percent(math.exp(step.logprob))}, rank {step.rank}", ""))
    lines.append((f"≈ {number} equally likely (entropy {step.entropy:.2f} nats)", ""))
    if step.sampling_logprob is None:
        lines.append(("Your text" if is_prompt else "Not sampled by this model", "dim"))
    else:
        lines.append((f"drawn at {percent(math.exp(step.sampling_logprob))} after settings", ""))
    return lines


def rows(step: Step, vocab_size: int, limit: int = 10) -> list[tuple[str, float, float, bool]]:
    """Rows of (label, the model's probability, probability after settings, is this the token?).

    The best candidates, at most `limit`; the token itself if it is not among them; and the rest of
    the vocabulary, so that each column sums to 1.
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


def _left_over(parts: Iterable[float]) -> float:
    """1 minus the sum; 0 if the difference is only float32 rounding."""
    rest = 1 - math.fsum(parts)
    return rest if rest > 2e-6 else 0.0


def _exp(logprob: float | None) -> float:
    return 0.0 if logprob is None else math.exp(logprob)


def _bar(p: float, width: int) -> str:
    whole, eighth = divmod(round(min(1.0, p) * width * 8), 8)
    return ("█" * whole + (_EIGHTHS[eighth] if eighth else "")).ljust(width)
