"""Colours of probabilities; it knows numbers and a theme and no widget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.style import Style as RichStyle
from textual.color import Color
from textual.content import Content
from textual.style import Style

from gpt.step import Step

STEPS = 16
CERTAIN = 0.7
"""Tokens at least this probable stay uncoloured, so that the eye lands on real choices."""


@dataclass(frozen=True)
class Scale:
    """One thing to colour tokens by."""

    title: str
    heat: Callable[[Step], int]
    """0 for a token that is nothing special in this respect or has no such number, to 15."""
    legend: dict[str, int]
    """Heats of a few values."""


def heat(logprob: float | None) -> int:
    """Of a probability: 0 from 70 % on, then steps of 0.75 bits of surprisal to about 0.05 %."""
    if logprob is None or logprob >= math.log(CERTAIN):
        return 0
    return _limit(1 + (math.log(CERTAIN) - logprob) / math.log(2) / 0.75)


def _rank(rank: int | None) -> int:
    """A step for every doubling behind the first."""
    return 0 if rank is None or rank < 2 else _limit(1 + math.log2(rank - 1))


def _entropy(nats: float | None) -> int:
    """Steps of 0.75 bits."""
    return 0 if nats is None else _limit(nats / math.log(2) / 0.75)


def _change(before: float | None, after: float | None) -> int:
    """Of a probability by the settings, either way: steps of a quarter of a doubling."""
    if before is None or after is None:
        return 0
    return _limit(abs(after - before) / math.log(2) / 0.25)


def _limit(value: float) -> int:
    return max(0, min(STEPS - 1, int(value)))


def _legend(heat_of: Callable[[float], int], values: dict[str, float]) -> dict[str, int]:
    return {label: heat_of(value) for label, value in values.items()}


SCALES = (
    Scale(
        "coloured by the model's own probability",
        lambda step: heat(step.logprob),
        _legend(
            lambda p: heat(math.log(p)),
            {"70 %+": 0.7, "50": 0.5, "20": 0.2, "5": 0.05, "1": 0.01, ".1 %": 0.001},
        ),
    ),
    Scale(
        "coloured by rank: 1 is the model's first choice",
        lambda step: _rank(step.rank),
        _legend(lambda r: _rank(int(r)), {"1": 1, "2": 2, "5": 5, "20": 20, "100": 100}),
    ),
    Scale(
        "coloured by how many tokens the model chose among",
        lambda step: _entropy(step.entropy),
        _legend(lambda n: _entropy(math.log(n)), {"1": 1, "2": 2, "5": 5, "20": 20, "100": 100}),
    ),
    Scale(
        "coloured by what the settings changed",
        lambda step: _change(step.logprob, step.sampling_logprob),
        _legend(lambda f: _change(0.0, math.log(f)), {"×1": 1, "×1.5": 1.5, "×2": 2, "×4": 4}),
    ),
)
"""All but the last are the model's own numbers, at temperature 1 before any setting."""


def _bits(bits: float) -> int:
    """Steps of 0.4 bits, either way."""
    return _limit(abs(bits) / 0.4)


def between(title: str, bits: Sequence[float | None]) -> Scale:
    """A scale of what two models make of one text: bits of the token at each position."""

    def of(step: Step) -> int:
        return _bits(bits[step.position] or 0.0) if step.position < len(bits) else 0

    return Scale(title, of, _legend(_bits, {f"{n:g} bits": n for n in (0, 0.5, 1, 3, 6)}))


SURPRISED = math.log(0.05)
UNCERTAIN = math.log(4)
FORKS: dict[str, Callable[[Step], bool]] = {
    "the model chose among four tokens or more": lambda s: (s.entropy or 0) >= UNCERTAIN,
    "the model's first choice is another": lambda s: (s.rank or 1) > 1,
    "the model gave 5 % or less": lambda s: s.logprob is not None and s.logprob <= SURPRISED,
}
"""Places worth looking at; by the model's own numbers."""


class Palette:
    """Styles of a theme for tokens of each heat."""

    def __init__(self, variables: dict[str, str]) -> None:
        ground = Color.parse(variables["background"])
        hot = Color.parse(variables["error"])
        text = Color.parse(variables["foreground"])
        prompt = Color.parse(variables["accent"])
        grounds = [ground] + [
            ground.blend(hot, 0.1 + 0.75 * step / (STEPS - 1)) for step in range(1, STEPS)
        ]
        self._styles: dict[tuple[int, bool], RichStyle] = {}
        for step, colour in enumerate(grounds):
            for is_prompt in (False, True):
                ink = (prompt if is_prompt else text).blend(colour.get_contrast_text(1), step / 20)
                self._styles[step, is_prompt] = RichStyle(
                    color=ink.rich_color, bgcolor=colour.rich_color, italic=is_prompt
                )
        self.selected = RichStyle(color=ground.rich_color, bgcolor=text.rich_color, bold=True)
        self._grounds, self._text = grounds, text

    def legend(self, scale: Scale) -> Content:
        """The colours of a few values, for a border."""
        parts = [
            (f" {label} ", Style(self._grounds[level], self._text))
            for label, level in scale.legend.items()
        ]
        return Content.assemble(*parts)

    def style(self, level: int, is_prompt: bool) -> RichStyle:
        """How a token of this heat looks."""
        return self._styles[level, is_prompt]
