"""The line of keys: every hint that is shown is whole."""

from __future__ import annotations

import pytest
from textual.pilot import Pilot

from tests.tui.fake import FakeBackend, app_with, running
from tests.tui.test_app import until_written, write
from tests.tui.test_branching import at
from tui.widgets.hints import Hints


def words(pilot: Pilot[None]) -> list[str]:
    """What the line says, with what is left of each hint; the help, at the right, not."""
    line = pilot.app.screen.query_one(Hints)
    strips = pilot.app.screen._compositor.render_strips()
    row = strips[line.region.y].text.rstrip()
    assert row.endswith("F1 help")
    return [each.strip() for each in row.removesuffix("F1 help").split("  ") if each.strip()]


async def test_a_hint_is_shown_whole_or_not_at_all_at_every_width() -> None:
    async with running(app_with(FakeBackend()), size=(220, 32)) as pilot:
        everything = words(pilot)
        assert any(each.endswith("send") for each in everything)
        found = set()
        for width in (120, 81, 64, 97, 119, 118, 117, 116, 140, 220):
            await pilot.resize_terminal(width, 32)
            await pilot.pause()
            shown = words(pilot)
            assert set(shown) <= set(everything)
            found.add(len(shown))
        assert len(found) > 2 and max(found) == len(everything)


async def test_behind_a_window_only_the_help_is_offered() -> None:
    async with running(app_with(FakeBackend("hello")), size=(80, 24)) as pilot:
        screen = await write(pilot, pilot.app, "ab")  # type: ignore[arg-type]
        await at(pilot, screen, 3)
        before = words(pilot)
        assert any(each.endswith("take") for each in before)
        await pilot.press("f4")
        await pilot.pause()
        line = screen.query_one(Hints)
        assert str(line.render()).split() == ["F1", "help"]
        await pilot.press("escape")
        await pilot.pause()
        assert words(pilot) == before


@pytest.mark.parametrize("size", [(80, 24), (60, 20)])
async def test_the_way_back_to_the_old_text_comes_first(size: tuple[int, int]) -> None:
    async with running(app_with(FakeBackend("hello")), size=size) as pilot:
        screen = await write(pilot, pilot.app, "ab")  # type: ignore[arg-type]
        await at(pilot, screen, 3)
        assert not any("branch" in each for each in words(pilot))
        await pilot.press("2")
        await until_written(pilot, screen)
        assert words(pilot)[0] == "[ other branch"


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("key", ["f1", "f3", "f4", "f6", "f9", "ctrl+o"])
async def test_a_window_is_as_wide_as_a_narrow_terminal(width: int, key: str) -> None:
    async with running(app_with(FakeBackend("hello")), size=(width, 24)) as pilot:
        screen = await write(pilot, pilot.app, "ab")  # type: ignore[arg-type]
        await at(pilot, screen, 3)
        await pilot.press(key)
        await pilot.pause()
        window = pilot.app.screen
        assert window is not screen
        (panel,) = (each for each in window.children if each.region.area)
        assert (panel.region.x, panel.region.width) == (0, width)
