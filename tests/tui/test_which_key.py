"""The panel of all keys: no key is lost at any size, and the next key acts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.pilot import Pilot

from tests.terminal import SIZES
from tests.tui.fake import FakeBackend, app_with, main_screen, running
from tests.tui.test_app import complaints, write
from tui.app import GPTApp
from tui.keys import KEYS, PROGRAM, names, written
from tui.screens.main import MainScreen
from tui.widgets.prompt import Prompt
from tui.widgets.which_key import Cell, WhichKey, arrange

ALL_SIZES = [*SIZES, (200, 60)]


async def in_the_text(pilot: Pilot[None], app: GPTApp, text: str = "ab") -> MainScreen:
    """The main screen after a run, with the focus in the text."""
    screen = await write(pilot, app, text)
    screen.view.focus()
    await pilot.pause()
    return screen


def panel(app: GPTApp) -> WhichKey | None:
    """The panel if it is shown."""
    found = [each for each in app.screen.query(WhichKey) if each.display]
    return found[0] if found else None


def drawn(app: GPTApp) -> str:
    rows = app.screen._compositor.render_strips()
    region = app.screen.query_one(WhichKey).region
    return "\n".join(row.text for row in rows[region.y : region.bottom])


async def all_rows(pilot: Pilot[None], app: GPTApp) -> str:
    """What the panel shows while it is scrolled to its end."""
    shown = drawn(app)
    while shown.find("↑ ↓ rows") >= 0:
        before = drawn(app)
        await pilot.press("down")
        await pilot.pause()
        if drawn(app) == before:
            break
        shown += drawn(app)
    return shown


@pytest.mark.parametrize("size", ALL_SIZES)
async def test_every_key_is_on_the_screen_at_every_size(size: tuple[int, int]) -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, size) as pilot:
        await in_the_text(pilot, app)
        await pilot.press("space")
        await pilot.pause()
        shown = panel(app)
        assert shown and shown.region.bottom == size[1]
        text = (await all_rows(pilot, app)).replace("1–9", "123456789")
        for key in (*KEYS, *PROGRAM):
            if key.place != "in the prompt":
                for name in names(key, {}):
                    assert written(name).removeprefix("Shift+") in text, name
        assert "take candidate" in text and "tree of branches" in text
        if size[0] >= 120:
            assert shown.size.height < size[1] * 0.6


async def test_the_next_key_acts_and_closes_it() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await in_the_text(pilot, app)
        index = screen.view.index
        await pilot.press("space", "left")
        assert panel(app) is None and screen.view.index == (index or 0) - 1
        await pilot.press("space", "space")
        assert panel(app) is None
        await pilot.press("space", "escape")
        assert panel(app) is None and app.focused is screen.view  # Esc did only that
        await pilot.press("space", "ctrl+n")
        assert panel(app) is None and not screen.document.path


async def test_a_low_panel_scrolls_and_the_text_stays_where_it_is() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (60, 20)) as pilot:
        screen = await in_the_text(pilot, app)
        index = screen.view.index
        await pilot.press("space", "end")
        await pilot.pause()
        assert panel(app) and "quit" in drawn(app) and "Move" not in drawn(app)
        await pilot.press("home")
        await pilot.pause()
        assert panel(app) and "Move" in drawn(app) and screen.view.index == index
        for key, first in (("down", 2), ("pagedown", 12), ("up", 11), ("pageup", 1)):
            await pilot.press(key)
            await pilot.pause()
            assert f"rows {first}–" in drawn(app)
        await pilot.press("left")  # it scrolls nothing, so it acts
        await pilot.pause()
        assert panel(app) is None and screen.view.index == (index or 0) - 1


async def test_the_impossible_is_dim_and_says_why() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await in_the_text(pilot, app)
        await pilot.press("space")
        await pilot.pause()
        shown = panel(app)
        assert shown
        index = next(i for i, c in enumerate(shown._commands) if c.key and c.key.id == "text.undo")
        await shown.action_press(index)
        await pilot.pause()
        assert panel(app) is None
        assert complaints(app)[-1] == "There is nothing to undo; Del deletes from a token on."
        assert app.focused is screen.view


async def test_a_click_acts_and_a_click_elsewhere_closes() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (120, 40)) as pilot:
        screen = await in_the_text(pilot, app)
        await pilot.press("space")
        await pilot.pause()
        shown = panel(app)
        assert shown
        lines = drawn(app).split("\n")
        y = next(i for i, line in enumerate(lines) if "delete" in line)
        await pilot.click(offset=(lines[y].index("delete"), shown.region.y + y))
        await pilot.pause()
        assert panel(app) is None
        assert screen.document.text == "abhell"
        await pilot.press("space")
        await pilot.pause()
        await pilot.click(offset=(5, 3))
        await pilot.pause()
        assert panel(app) is None
        await pilot.press("space")
        await pilot.pause()
        screen.query_one(Prompt).focus()
        await pilot.pause()
        assert panel(app) is None


async def test_another_window_and_another_size_do_not_harm_it() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (120, 40)) as pilot:
        await in_the_text(pilot, app)
        await pilot.press("space")
        for size in ((60, 20), (10, 4), (1, 1), (200, 60)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        assert "Presenter" in drawn(app) or "presenter" in drawn(app)
        await pilot.press("f6", "escape")
        await pilot.pause()
        assert isinstance(app.screen, MainScreen) and panel(app) is None
        assert main_screen(app).document.text == "abhello"


_CELLS = st.lists(
    st.builds(
        lambda key, words: Cell(((key, "", None),), (words, "", None)),
        st.text("abc+", min_size=1, max_size=12),
        st.text("xyz ", max_size=20),
    ),
    min_size=1,
    max_size=12,
)
_GROUPS = st.dictionaries(st.sampled_from("Move Change Look Compare Keep Program".split()), _CELLS)


@given(_GROUPS, st.integers(40, 200), st.integers(1, 60))
def test_no_arrangement_loses_a_key_or_is_too_wide(
    groups: dict[str, list[Cell]], width: int, height: int
) -> None:
    lines = arrange(groups, width, height)
    drawn = [text for line in lines for text, _, _ in line]
    for name, cells in groups.items():
        assert any(text.strip() == name for text in drawn)
        for cell in cells:
            assert cell.keys[0][0] in drawn
    for line in lines:
        text = "".join(text for text, _, _ in line).rstrip()
        assert cell_len(text) <= width
