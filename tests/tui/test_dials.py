"""The fields of the settings: what is typed after a key, a preset or the mouse changed them."""

from __future__ import annotations

import pytest
from textual.widgets import Input

from tests.tui.fake import FakeBackend, app_with, main_screen, running
from tests.tui.test_app import complaints, write
from tui.dials import KNOBS
from tui.screens.main import MainScreen
from tui.widgets.dial import Dial, Words
from tui.widgets.slider import Slider

USUAL = [knob.name for knob in KNOBS if knob.name != "seed"]


def dial(screen: MainScreen, name: str) -> Dial:
    return screen.query_one(f"#{name}", Dial)


@pytest.mark.slow
async def test_a_number_typed_after_the_arrow_keys_replaces_the_whole_value() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        controls = main_screen(app).controls
        assert controls
        await controls.open()
        for name in USUAL:
            field = dial(main_screen(app), name)
            field.focus()
            for keys in (["up"] * 3, ["down"] * 2, ["end", "up"], ["home", "down"]):
                await pilot.press(*keys, "7")
                assert field.value == "7", (name, keys)


@pytest.mark.parametrize(
    ("name", "keys", "typed"),
    [
        ("temperature", ["up"] * 3, "0.5"),
        ("top_k", ["up"] * 2, "3"),
        ("top_p", ["down"] * 2, "0.7"),
    ],
)
async def test_typing_after_an_arrow_key_shows_what_was_typed(
    name: str, keys: list[str], typed: str
) -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        field = dial(main_screen(app), name)
        field.focus()
        await pilot.press(*keys, *typed)
        assert field.value == typed


async def test_a_preset_and_a_slider_leave_the_focused_value_selected() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = main_screen(app)
        field = dial(screen, "temperature")
        field.value = "0.123456"
        field.focus()
        await pilot.pause()
        assert screen.controls
        screen.controls.use_preset("wild")
        await pilot.press("2")
        assert field.value == "2"
        await pilot.press("backspace", *"0.123456", "shift+home")
        slider = screen.query_one("#slide_temperature", Slider)
        slider.post_message(Slider.Moved(slider, 0.25))
        await pilot.pause()
        assert field.value == "0.25"
        await pilot.press("1")
        assert field.value == "1"


async def test_a_value_off_the_rail_is_an_arrow_at_its_end() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (120, 40)) as pilot:
        slider = main_screen(app).query_one("#slide_temperature", Slider)
        for value, sign in (("2", "●"), ("4", "▶"), ("0", "●")):
            main_screen(app).query_one("#temperature", Input).value = value
            await pilot.pause()
            assert sign in slider.render().plain


@pytest.mark.parametrize(
    ("typed", "items"),
    [
        ("king, queen", ["king", "queen"]),
        ("king queen", ["king", "queen"]),
        (", king", [",", "king"]),
        ("·the, #12", [" the", "#12"]),
    ],
)
async def test_words_are_separated_by_spaces_or_commas(typed: str, items: list[str]) -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        field = main_screen(app).query_one("#banned", Words)
        field.value = typed
        await pilot.pause()
        assert field.items == items


async def test_the_presets_begin_with_the_one_in_use_or_the_usual_one() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = main_screen(app)
        dial(screen, "temperature").value = "1.31"
        for keys, expected in ((["enter"], "balanced"), (["down", "enter"], "wild")):
            await pilot.press("f9")
            await pilot.pause()
            await pilot.press(*keys)
            await pilot.pause()
            assert screen.controls and screen.controls.preset == expected
            assert complaints(app)[-1] == f"Sampling settings: preset {expected}"


async def test_the_border_says_how_a_setting_is_changed() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        await pilot.press("tab", "full_stop")
        await pilot.pause()
        assert screen.controls
        assert str(screen.controls.border_subtitle).startswith("Tab to change · ")
        await pilot.press("tab", "up")
        await pilot.pause()
        assert dial(screen, "temperature").value == "0.9"
        assert str(screen.controls.border_subtitle).startswith("↑ ↓ change · ")
        await pilot.press("escape")
        await pilot.pause()
        assert str(screen.controls.border_subtitle).startswith("Tab to change · ")
