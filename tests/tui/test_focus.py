"""The focus: it is always on something that a person sees, and the footer is the one of it."""

from __future__ import annotations

import random

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from tests.marks import slow_but
from tests.tui.fake import FakeBackend, app_with, main_screen, running
from tests.tui.test_app import complaints, write
from tui.app import GPTApp
from tui.possible import NO_TEXT
from tui.screens.help import HelpScreen
from tui.screens.main import LOW, TWO, MainScreen
from tui.widgets.hints import Hints

SIZES = ((60, 20), (80, 24), (120, 40), (200, 60), (40, 12))
STEPS = (
    *("tab", "shift+tab", "full_stop", "comma", "escape", "f2", "f2", "up", "down", "left"),
    *(
        "right",
        "home",
        "e",
        "a",
        "t",
        "ctrl+t",
        "P",
        "i",
        "space",
        "enter",
        "x",
        "k",
        "1",
        "ctrl+l",
        "F1 set branches",
        "F1 set chat",
        "F1 set slide",
        "F1 set DRY base",
    ),
)
"""Keys, and what is typed into the window of F1 before Enter."""


def assert_focus_is_visible(app: GPTApp, done: list[str]) -> None:
    """What has the focus is displayed, and the footer offers its keys."""
    screen = app.screen
    focused = screen.focused
    if isinstance(screen, MainScreen):
        assert focused is not None, done
    if focused is None:
        return
    assert all(part.display for part in focused.ancestors_with_self if part.parent), (focused, done)
    assert screen.find_widget(focused).visible_region.area, f"{focused} {done}"
    for hints in screen.query(Hints):
        drawn = hints.render_line(0).text  # a window may cover it
        assert drawn.strip() == hints.render().plain.strip(), done


async def walk(pilot: Pilot[None], app: GPTApp, steps: list[str]) -> None:
    done: list[str] = []
    for key in steps:
        if key.startswith("F1 "):
            await pilot.press("f1")
            await pilot.pause()
            if isinstance(app.screen, HelpScreen):
                app.screen.look_for(key[3:])
                await pilot.press("enter")
        else:
            await pilot.press(key)
        await pilot.pause()
        done.append(key)
        assert_focus_is_visible(app, done)


@pytest.mark.parametrize("size", slow_but(SIZES, (80, 24)), ids=str)
@pytest.mark.parametrize("text", ["", "ab"])
async def test_after_any_key_the_focus_is_visible(size: tuple[int, int], text: str) -> None:
    app = app_with(FakeBackend("hello"), length=5)
    async with running(app, size) as pilot:
        if text:
            await write(pilot, app, text)
        draw = random.Random(f"{size}{text}")
        await walk(pilot, app, draw.choices(STEPS, k=45))


async def test_esc_goes_from_a_panel_that_disappears_to_the_prompt_of_an_empty_text() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        await walk(pilot, app, ["tab", "full_stop", "tab", "7"])
        assert isinstance(main_screen(app).focused, Input)
        await walk(pilot, app, ["escape", *"king"])
        assert main_screen(app).prompt.text == "king"


@pytest.mark.parametrize("close", ["f2", "escape"])
@pytest.mark.parametrize("size", slow_but(SIZES[:4], (80, 24)), ids=str)
async def test_the_table_of_f2_gives_the_focus_back(size: tuple[int, int], close: str) -> None:
    app = app_with(FakeBackend("hello"), length=5)
    async with running(app, size) as pilot:
        screen = await write(pilot, app, "ab")
        await pilot.press("tab")
        while "sampling" not in screen.panels.shown:
            await pilot.press("full_stop")
        await pilot.press("tab")
        while not isinstance(screen.focused, Input):
            await pilot.press("tab")
        field = screen.focused
        await walk(pilot, app, ["f2", close])
        assert screen.focused is field
        await pilot.press(*"0.5")
        assert field.value == "0.5"


async def test_f2_leaves_the_focus_where_the_person_went_meanwhile() -> None:
    app = app_with(FakeBackend("hello"), length=5)
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        await walk(pilot, app, ["tab", "f2", "f2"])
        assert screen.view.has_focus
        await walk(pilot, app, ["escape", "f2", "tab", "f2"])
        assert screen.view.has_focus


async def test_a_smaller_window_takes_no_key_to_a_hidden_field() -> None:
    app = app_with(FakeBackend("hello"), length=5)
    async with running(app, (120, 40)) as pilot:
        screen = await write(pilot, app, "ab")
        await walk(pilot, app, ["tab", "tab"])
        assert isinstance(screen.focused, Input)
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        assert_focus_is_visible(app, ["80x24"])


async def test_presenter_mode_needs_a_text() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        await app.run_action("screen.presenter")
        await pilot.pause()
        assert complaints(app) == [NO_TEXT.reason] and not main_screen(app).is_presenting


async def test_a_new_text_leaves_presenter_mode() -> None:
    app = app_with(FakeBackend("hello"), length=5)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await walk(pilot, app, ["tab", "P", "ctrl+n"])
        assert screen.prompt.has_focus and not screen.is_presenting


async def test_the_footer_says_that_a_text_goes_on_from_the_selected_token() -> None:
    app = app_with(FakeBackend("hello"), length=5)
    async with running(app, (160, 40)) as pilot:
        screen = await write(pilot, app, "ab")
        hints = screen.query_one("#foot", Hints)
        assert "Ctrl+G continue " in hints.render_line(0).text
        for keys in (["tab", "left"], ["escape"]):
            await pilot.press(*keys)
            await pilot.pause()
            assert "Ctrl+G continue here" in hints.render_line(0).text
        await pilot.press("tab", "end")
        await pilot.pause()
        assert "Ctrl+G continue " in hints.render_line(0).text
        assert "here" not in hints.render_line(0).text


async def test_esc_from_the_text_says_where_letters_go_now() -> None:
    app = app_with(FakeBackend("hello"), length=5)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        assert "Letters go here" not in str(screen.prompt.border_title)
        await pilot.press("tab", "escape")
        await pilot.pause()
        assert "Letters go here now" in str(screen.prompt.border_title)
        await pilot.press("tab")
        await pilot.pause()
        assert not screen.prompt.border_title
        await pilot.press("escape", "v")
        await pilot.pause()
        assert "Letters go here" not in str(screen.prompt.border_title)
        assert "v" in str(screen.prompt.border_title)


@pytest.mark.parametrize("size", slow_but(SIZES, (80, 24)), ids=str)
@pytest.mark.parametrize("setting", ["branches", "banned", "XTC threshold"])
async def test_a_setting_that_is_found_in_the_help_is_on_the_screen(
    size: tuple[int, int], setting: str
) -> None:
    app = app_with(FakeBackend("hello"), length=5)
    async with running(app, size) as pilot:
        screen = await write(pilot, app, "ab")
        await walk(pilot, app, ["tab", "f2", f"F1 set {setting}"])
        if size[1] < LOW:
            assert complaints(app) == ["The terminal has too few rows for panels."]
        else:
            field = screen.focused
            assert isinstance(field, Input) and field.id == setting.lower().replace(" ", "_")
            assert not screen.table.display or size[0] >= TWO
        await walk(pilot, app, ["escape", "t"])


@pytest.mark.parametrize("size", SIZES[:4], ids=str)
async def test_esc_goes_from_a_setting_of_an_empty_text_to_the_prompt(
    size: tuple[int, int],
) -> None:
    app = app_with(FakeBackend("hello"), length=5)
    async with running(app, size) as pilot:
        await walk(pilot, app, ["F1 set slide", "space", "escape", *"king"])
        assert main_screen(app).prompt.text == "king"


@pytest.mark.parametrize("key", ["t", "full_stop", "e"])
async def test_a_panel_takes_the_place_of_the_table_of_f2(key: str) -> None:
    app = app_with(FakeBackend("hello"), length=5)
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        await walk(pilot, app, ["tab", "f2", key])
        assert not screen.table.display and screen.panels.region.area


async def test_presenter_mode_says_why_there_is_no_panel() -> None:
    app = app_with(FakeBackend("hello"), length=5)
    async with running(app) as pilot:
        await write(pilot, app, "ab")
        await walk(pilot, app, ["tab", "P", "t"])
        assert complaints(app) == ["Presenter mode shows no panels; P ends it."]


async def test_a_new_text_does_not_send_anybody_back_to_an_empty_one() -> None:
    app = app_with(FakeBackend("hello"), length=5)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await walk(pilot, app, ["tab", "escape", "ctrl+n"])
        assert not screen.prompt.border_title
