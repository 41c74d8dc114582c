"""The colours that a terminal is told: readable in every theme, and as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rich.style import Style
from syrupy.assertion import SnapshotAssertion
from textual.color import Color
from textual.theme import BUILTIN_THEMES

from tests.marks import slow_but
from tests.tui.fake import FakeBackend, app_with, running
from tests.tui.test_app import write
from tests.tui.test_branching import at
from tests.tui.test_inside import inside, press
from tui.app import GPTApp
from tui.colour import READABLE, contrast
from tui.preferences import HEAT_MAPS, Preferences

REPLY = "hello you there, world"
THEMES = sorted(name for name in BUILTIN_THEMES if "ansi" not in name)
USUAL = ("textual-dark", "textual-light", "monokai", "solarized-light")


def pieces(app: GPTApp) -> Iterator[tuple[int, str, Style]]:
    """Row, text and style of everything on the screen."""
    for row, strip in enumerate(app.screen._compositor.render_strips()):
        for segment in strip:
            yield row, segment.text, segment.style or Style()


def colours(style: Style) -> tuple[Color, Color]:
    """Of the letters and of the ground."""
    assert style.color and style.color.triplet and style.bgcolor and style.bgcolor.triplet
    ink, ground = Color(*style.color.triplet), Color(*style.bgcolor.triplet)
    return (ground, ink) if style.reverse else (ink, ground)


@pytest.mark.parametrize("theme", slow_but(THEMES, *USUAL))
async def test_every_word_can_be_read_in_every_theme(theme: str) -> None:
    app = app_with(FakeBackend(REPLY), seed=7)
    app.theme = theme
    async with running(app, size=(160, 40)) as pilot:
        faint = []
        screen = await write(pilot, app, "to be")
        await at(pilot, screen, 7)
        for keys in (["f2", "t"], ["escape", "g", "i"], ["escape", "e"], ["space"]):
            await pilot.press(*keys)
            await pilot.pause(0.05)
            faint += unreadable(app)
    assert not faint


@pytest.mark.parametrize("theme", slow_but(THEMES, *USUAL[:2]))
async def test_every_word_about_the_network_can_be_read_in_every_theme(theme: str) -> None:
    async with inside() as (app, _, pilot, _):
        app.theme = theme
        for tab in "1234567890":
            await press(pilot, tab)
            assert not unreadable(app), tab


def unreadable(app: GPTApp) -> list[tuple[int, str, str, str]]:
    """Words on the screen that have too little contrast."""
    variables = app.theme_variables
    own = contrast(Color.parse(variables["foreground"]), Color.parse(variables["surface"]))
    least = min(READABLE, 0.75 * own)  # a few themes' own letters have less
    cursor = Color.parse(variables["block-cursor-background"])
    found = []
    for row, text, style in pieces(app):
        if any(character.isalnum() or character in "█▌" for character in text):
            ink, ground = colours(style)
            is_word = any(character.isalnum() for character in text)
            # The theme's own cursor is left out.
            if is_word and contrast(ink, ground) < least and ground != cursor:
                found.append((row, text, ink.hex, ground.hex))
    return found


def painted(app: GPTApp) -> str:
    """The screen, a line for each piece with another style."""
    lines = list[str]()
    for row, text, style in pieces(app):
        if text.strip():
            lines.append(
                f"{row:2} {text.strip()!r}: {style.without_color} {style.color} {style.bgcolor}"
            )
    return "\n".join(lines)


@pytest.mark.parametrize("heat_map", HEAT_MAPS)
@pytest.mark.parametrize("theme", ["textual-dark", "textual-light"])
async def test_the_screen_is_painted_like_this(
    theme: str, heat_map: str, snapshot: SnapshotAssertion
) -> None:
    app = app_with(FakeBackend(REPLY), seed=7)
    app.preferences = Preferences(theme=theme, heat_map=heat_map)
    app.theme = theme
    app.refresh_css(animate=False)
    async with running(app, size=(100, 32)) as pilot:
        screen = await write(pilot, app, "to be")
        await at(pilot, screen, 7)
        await pilot.pause(0.2)
        assert painted(app) == snapshot
