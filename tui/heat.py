"""Colours of probabilities; it knows numbers and a theme and no widget."""

from __future__ import annotations

import math

from rich.style import Style as RichStyle
from textual.color import Color
from textual.content import Content
from textual.style import Style

STEPS = 16
CERTAIN = 0.7
"""Tokens at least this probable stay uncoloured, so that the eye lands on real choices."""
_BITS_PER_STEP = 0.75
LEGEND = {"70 %+": 0.7, "50": 0.5, "20": 0.2, "5": 0.05, "1": 0.01, ".1 %": 0.001}


def heat(logprob: float | None) -> int:
    """0 for a token that is certain enough or has no probability, to 15 for a great surprise.

    Steps are equal in surprisal: 0.75 bits each from 70 % down to about 0.05 %.
    """
    if logprob is None or logprob >= math.log(CERTAIN):
        return 0
    bits = (math.log(CERTAIN) - logprob) / math.log(2)
    return min(STEPS - 1, 1 + int(bits / _BITS_PER_STEP))


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

    def legend(self) -> Content:
        """The colours of a few probabilities, for a border."""
        parts = [
            (f" {p} ", Style(self._grounds[heat(math.log(value))], self._text))
            for p, value in LEGEND.items()
        ]
        return Content.assemble(*parts)

    def style(self, logprob: float | None, is_prompt: bool) -> RichStyle:
        """How a token looks."""
        return self._styles[heat(logprob), is_prompt]
