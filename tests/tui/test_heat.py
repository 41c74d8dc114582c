"""Heat maps on every theme."""

from __future__ import annotations

import pytest
from textual.app import App
from textual.color import Color

from tui.heat import STEPS, Palette, contrast
from tui.preferences import HEAT_MAPS

THEMES = App().available_themes


@pytest.mark.parametrize("kind", HEAT_MAPS)
@pytest.mark.parametrize("theme", THEMES)
def test_what_is_more_surprising_stands_out_more(theme: str, kind: str) -> None:
    variables = {**THEMES[theme].to_color_system().generate(), "heat-map": kind}
    palette = Palette(variables)
    styles = [palette.style(level, is_prompt=False) for level in range(STEPS)]
    if Color.parse(variables["background"]).ansi is not None:  # colours that cannot be mixed
        assert len({(style.bold, style.underline) for style in styles}) == 4
        return
    ground = Color.parse(variables["background"])
    grounds = [Color.from_rich_color(style.bgcolor) for style in styles if style.bgcolor]
    contrasts = [contrast(each, ground) for each in grounds]
    assert contrasts == sorted(contrasts)
    assert len(set(contrasts)) == STEPS
