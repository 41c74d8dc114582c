"""Colours of tokens by a number, for a theme; no widgets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.style import Style as RichStyle
from textual.color import BLACK, WHITE, Color, Gradient
from textual.content import Content
from textual.style import Style

from gpt.step import Step

STEPS = 16
CERTAIN = 0.7
"""Tokens at least this probable have no colour, so that real choices stand out."""


@dataclass(frozen=True)
class Scale:
    """One way to colour tokens."""

    title: str
    heat: Callable[[Step], int]
    """0 (no colour, or no number) to 15."""
    legend: dict[str, int]
    """Label → heat of a few example values."""


def heat(logprob: float | None) -> int:
    """Heat of a probability: 0 from 70 % up, then a step for each 0.75 bits of surprisal."""
    if logprob is None or logprob >= math.log(CERTAIN):
        return 0
    return _limit(1 + (math.log(CERTAIN) - logprob) / math.log(2) / 0.75)


def _rank(rank: int | None) -> int:
    """A step for every doubling of the rank."""
    return 0 if rank is None or rank < 2 else _limit(1 + math.log2(rank - 1))


def _entropy(nats: float | None) -> int:
    """Steps of 0.75 bits."""
    return 0 if nats is None else _limit(nats / math.log(2) / 0.75)


def _change(before: float | None, after: float | None) -> int:
    """Heat of a change of probability, up or down: a step for each 0.25 bits."""
    if before is None or after is None:
        return 0
    return _limit(abs(after - before) / math.log(2) / 0.25)


def _limit(value: float) -> int:
    return max(0, min(STEPS - 1, int(value)))


def _legend(heat_of: Callable[[float], int], values: dict[str, float]) -> dict[str, int]:
    return {label: heat_of(value) for label, value in values.items()}


SCALES = (
    Scale(
        "Text · colour: probability",
        lambda step: heat(step.logprob),
        _legend(
            lambda p: heat(math.log(p)),
            {"70 %+": 0.7, "50": 0.5, "20": 0.2, "5": 0.05, "1": 0.01, ".1 %": 0.001},
        ),
    ),
    Scale(
        "Text · colour: rank (1 is the first choice)",
        lambda step: _rank(step.rank),
        _legend(lambda r: _rank(int(r)), {"1": 1, "2": 2, "5": 5, "20": 20, "100": 100}),
    ),
    Scale(
        "Text · colour: number of equally likely tokens",
        lambda step: _entropy(step.entropy),
        _legend(lambda n: _entropy(math.log(n)), {"1": 1, "2": 2, "5": 5, "20": 20, "100": 100}),
    ),
    Scale(
        "Text · colour: change by the settings",
        lambda step: _change(step.logprob, step.sampling_logprob),
        _legend(lambda f: _change(0.0, math.log(f)), {"×1": 1, "×1.5": 1.5, "×2": 2, "×4": 4}),
    ),
)
"""All except the last one show the model's own numbers: temperature 1, no other setting."""


def _bits(bits: float) -> int:
    """A step for each 0.4 bits, positive or negative."""
    return _limit(abs(bits) / 0.4)


def between(title: str, bits: Sequence[float | None]) -> Scale:
    """A scale by a number of bits for each position of a text."""

    def of(step: Step) -> int:
        return _bits(bits[step.position] or 0.0) if step.position < len(bits) else 0

    return Scale(title, of, _legend(_bits, {f"{n:g} bits": n for n in (0, 0.5, 1, 3, 6)}))


SURPRISED = math.log(0.05)
UNCERTAIN = math.log(4)
FORKS: dict[str, Callable[[Step], bool]] = {
    "uncertain token (4 or more equally likely)": lambda s: (s.entropy or 0) >= UNCERTAIN,
    "token that was not the first choice": lambda s: (s.rank or 1) > 1,
    "surprising token (5 % or less)": lambda s: s.logprob is not None and s.logprob <= SURPRISED,
}
"""Kinds of tokens worth a look, by the model's own numbers."""


CIVIDIS = ("#00224e", "#575d6d", "#a59c74", "#fee838")
"""Stops of a scale that looks the same with every colour vision (Nuñez et al. 2018)."""
_MARKS = (
    RichStyle(),
    RichStyle(underline=True),
    RichStyle(bold=True),
    RichStyle(bold=True, underline=True),
)


def _grounds(ground: Color, variables: dict[str, str]) -> list[Color]:
    """Background colour of each heat; the first is the theme's."""
    kind = variables.get("heat-map", "theme")
    if kind == "colour-blind":
        # Away from the theme's background, so that more surprising tokens stand out more.
        ends = CIVIDIS[:3] if ground.brightness > 0.5 else CIVIDIS[:0:-1]
        stops = [ground, *map(Color.parse, reversed(ends))]
        scale = Gradient(*((i / (len(stops) - 1), stop) for i, stop in enumerate(stops)))
        return [scale.get_color(step / (STEPS - 1)) for step in range(STEPS)]
    hot = Color.parse(variables["foreground" if kind == "monochrome" else "error"])
    return [ground] + [
        ground.blend(hot, 0.1 + 0.75 * step / (STEPS - 1)) for step in range(1, STEPS)
    ]


class Palette:
    """The styles of each heat in a theme.

    variables: the theme's, with heat-map (one of the preferences' HEAT_MAPS) and heat-marks ("true"
    shows heat by bold and underlined letters as well).
    """

    def __init__(self, variables: dict[str, str]) -> None:
        ground = Color.parse(variables["background"])
        text = Color.parse(variables["foreground"])
        prompt = Color.parse(variables["accent"])
        # The terminal's own colours cannot be blended.
        has_marks = variables.get("heat-marks") == "true" or ground.ansi is not None
        self._grounds = _grounds(ground, variables)
        self._styles: dict[tuple[int, bool], RichStyle] = {}
        for level, colour in enumerate(self._grounds):
            for is_prompt in (False, True):
                ink = readable(prompt if is_prompt else text, colour)
                style = RichStyle(color=ink.rich_color, bgcolor=colour.rich_color, italic=is_prompt)
                self._styles[level, is_prompt] = style + _marks(level) if has_marks else style
        self.selected = RichStyle(color=ground.rich_color, bgcolor=text.rich_color, bold=True)

    def legend(self, scale: Scale) -> Content:
        """The colours of a few example values, for a border."""
        parts = [
            (f" {label} ", Style.from_rich_style(self._styles[level, False]))
            for label, level in scale.legend.items()
        ]
        return Content.assemble(*parts)

    def style(self, level: int, is_prompt: bool) -> RichStyle:
        """The style of a token with this heat."""
        return self._styles[level, is_prompt]


def _marks(level: int) -> RichStyle:
    """No mark for heat 0, then a stronger one for every third of the scale."""
    return _MARKS[0 if level == 0 else 1 + (level - 1) * 3 // (STEPS - 1)]


def readable(ink: Color, ground: Color) -> Color:
    """The ink, blended with black or white until it is readable on the ground."""
    goal = max(BLACK, WHITE, key=lambda colour: contrast(colour, ground))
    steps = (ink.blend(goal, step / 10) for step in range(11))
    return next((colour for colour in steps if contrast(colour, ground) >= READABLE), goal)


READABLE = 4.5
"""Least contrast of letters (Web Content Accessibility Guidelines: WCAG 2.2, 1.4.3)."""


def contrast(a: Color, b: Color) -> float:
    """Contrast of two colours, 1 to 21, as the guidelines define it."""
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Color) -> float:
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.normalized
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
