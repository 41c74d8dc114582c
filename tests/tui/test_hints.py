"""The line of keys: every hint that is shown is whole."""

from __future__ import annotations

from textual.pilot import Pilot

from tests.tui.fake import FakeBackend, app_with, running
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
