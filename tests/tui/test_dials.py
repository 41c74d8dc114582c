"""The fields of the settings: what is typed after a key, a preset or the mouse changed them."""

from __future__ import annotations

import re

import pytest
from textual import events
from textual.message import Message
from textual.widgets import Input, Static

from gpt.setting_names import setting_name
from tests.tui.fake import FakeBackend, app_with, main_screen, running
from tests.tui.test_app import complaints, until_written, write
from tui.dials import KNOBS
from tui.key_order import Acted
from tui.screens.dialog import Palette
from tui.screens.main import MainScreen
from tui.widgets.dial import Dial, Words
from tui.widgets.effect import Effect
from tui.widgets.field import Field
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
            for keys in (["right"] * 3, ["left"] * 2, ["end", "right"], ["home", "left"]):
                await pilot.press(*keys, "7")
                assert field.value == "7", (name, keys)


@pytest.mark.parametrize(
    ("name", "keys", "typed"),
    [
        ("temperature", ["right"] * 3, "0.5"),
        ("top_k", ["right"] * 2, "3"),
        ("top_p", ["left"] * 2, "0.7"),
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
        await pilot.press("tab", "right")
        await pilot.pause()
        assert dial(screen, "temperature").value == "0.9"
        assert str(screen.controls.border_subtitle).startswith("← → change · ")
        await pilot.press("escape")
        await pilot.pause()
        assert str(screen.controls.border_subtitle).startswith("Tab to change · ")


async def test_up_and_down_go_from_setting_to_setting_and_the_label_shows_where() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        await pilot.press("tab", "full_stop", "tab")

        def marked() -> list[str]:
            return [str(label.id) for label in screen.query("Controls Label.-here")]

        names = ["temperature", "top_k", "top_p", "min_p", "repetition_penalty", "seed", "length"]
        names += ["branches", "banned", "boosted"]
        for name in names:
            assert screen.focused is screen.query_one(f"#{name}")
            assert marked() == [f"label_{name}"]
            await pilot.press("down")
        assert marked() == []  # a checkbox shows it itself
        await pilot.press(*["up"] * len(names))
        assert screen.focused is dial(screen, "temperature")
        await pilot.press("up")
        assert screen.focused is screen.query_one("#more"), "around"


async def test_a_wrong_number_is_marked_and_no_panel_shows_those_of_other_settings() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (120, 40)) as pilot:
        screen = await write(pilot, app, "ab")
        screen.view.action_select(3)
        await pilot.press("f2")
        await pilot.pause()
        assert screen.table.found is not None
        dial(screen, "top_k").focus()
        await pilot.press("minus")
        await pilot.pause()
        assert [field.id for field in screen.query("Dial.-wrong")] == ["top_k"]
        assert not screen.query_one(Effect).region, "no number of other settings"
        assert screen.table.found is None and screen.inspector.now is None
        assert screen.table.why_empty == "top-k is '-'; it must be a whole number"
        await pilot.press("backspace", "3")
        await pilot.pause()
        assert not screen.query("Dial.-wrong")
        assert screen.table.found is not None


async def test_without_room_for_the_bars_a_line_shows_what_a_setting_does() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        effect = screen.query_one(Effect)
        assert not effect.region
        screen.view.action_select(3)
        await pilot.press("tab", "full_stop")
        await pilot.pause()
        assert effect.region.height == 1
        before = effect.render().plain
        assert before.startswith("effect") and "▸" in before and " → " in before
        dial(screen, "temperature").focus()
        await pilot.press("left")
        await pilot.pause()
        assert effect.render().plain != before
        await pilot.resize_terminal(120, 40)
        await pilot.pause()
        assert not effect.region, "the bars are next to the settings"


async def test_the_line_of_the_effect_has_no_number_that_nobody_knows() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        screen.view.action_select(3)
        await pilot.press("tab", "full_stop")
        await pilot.pause()
        step = screen.inspector.step
        assert step
        screen.inspector.now = {step.token_id: 0.5}
        said = screen.query_one(Effect).render().plain
        assert re.search(r"▸\w [\d.]+ → 50.0 %", said) and " → – " in said


async def test_a_word_to_boost_without_its_number_is_a_problem_at_once() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        await pilot.press("tab", "full_stop")
        screen.query_one("#boosted").focus()
        await pilot.press(*"love")
        await pilot.pause()
        problem = screen.query_one("#problem")
        assert problem.region and screen.controls
        assert screen.controls.region.contains_region(problem.region), "wherever it is scrolled"


async def test_the_problem_of_the_field_that_is_typed_in_is_said_and_reset_ends_it() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        assert screen.controls
        problem = screen.query_one("#problem", Static)
        for name, typed in (("top_p", "7"), ("length", "-")):
            dial(screen, name).focus()
            await pilot.press(*typed)
            await pilot.pause()
            assert setting_name(name) in str(problem.render()).lower()
        await pilot.press("ctrl+g")
        assert "must be" in complaints(app)[-1]
        screen.action_reset_settings()
        await pilot.pause()
        assert not screen.controls.has_class("-problem")
        assert dial(screen, "length").value == dial(screen, "length").knob.value
        screen.view.focus()
        while "must be" in " ".join(complaints(app)):  # it goes with a key, once it has been read
            await pilot.press("left")


async def test_enter_in_a_setting_says_that_it_acts_already() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        for name in ("temperature", "seed", "boosted"):
            screen.query_one(f"#{name}").focus()
            await pilot.press("enter")
            assert "acts as soon as it is typed" in complaints(app)[-1]
        screen.query_one("#temperature", Dial).value = "9abc"
        await pilot.press("enter")
        assert complaints(app)[-1] == "Temperature is '9abc'; it must be a number"


async def test_a_letter_in_a_number_is_refused_and_a_wrong_number_goes_with_the_focus() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        field = dial(screen, "temperature")
        field.focus()
        await pilot.press("t")
        assert field.value == "0.8"
        assert complaints(app)[-1] == "Temperature takes a number."
        await pilot.press(*"1e-1")
        assert field.value == "1e-1" and not field.problem
        await pilot.press("enter", *"300")
        assert field.value == "300", "Enter ends a number, and the next one replaces it"
        assert screen.controls
        assert screen.controls.setup().texts["temperature"] == "1e-1"
        await pilot.press("escape")
        assert field.value == "1e-1"
        said = "Temperature is 300.0; it must be a number from 0 to 100. It stays 1e-1."
        assert complaints(app)[-1] == said


async def test_a_run_that_is_refused_has_no_seed() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        assert screen.controls
        before = screen.controls.last_seed
        for name, wrong in (("branches", "x"), ("temperature", "hot"), ("banned", "#9")):
            screen.query_one(f"#{name}", Field).value = wrong
            await pilot.press("ctrl+g")
            await until_written(pilot, screen)
            if name != "banned":
                assert screen.controls.last_seed == before, name
                screen.query_one(f"#{name}", Field).value = "1"
        assert screen.controls.last_seed != before  # that one ran


async def test_a_message_about_what_was_before_goes_when_a_run_begins() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        screen.query_one("#branches", Dial).value = "x"
        await pilot.press("ctrl+g")
        assert len(app._notifications) == 1
        screen.query_one("#branches", Dial).value = "1"
        await pilot.press("ctrl+g")
        assert len(app._notifications) == 0


async def test_keys_of_one_burst_act_one_after_the_other() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        await pilot.press("tab", "full_stop", "tab")
        for key in ("down", "3", "down", "down", "down", "down", "7", "ctrl+p", "x", "y"):
            character = key if len(key) == 1 else None
            app.post_message(events.Key(key, character))  # none waits for the one before
        while not (found := app.screen.query(Input)) or found.first().value != "xy":
            await pilot.pause()
        assert dial(screen, "temperature").value == "0.8"
        assert dial(screen, "top_k").value == "3"
        assert screen.query_one("#seed", Input).value == "7"
        assert isinstance(app.screen, Palette)


async def test_a_key_whose_widget_is_gone_holds_nothing_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tui.key_order.LONGEST", 0.05)
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        app.acting = events.Key("x", "x")  # its widget will never say that it has acted
        lost = main_screen(app).prompt.post_message

        def without_answers(message: Message) -> bool:
            return True if isinstance(message, Acted) else lost(message)

        monkeypatch.setattr(main_screen(app).prompt, "post_message", without_answers)
        for key in "abc":
            app.post_message(events.Key(key, key))
        while main_screen(app).prompt.text != "abc":
            await pilot.pause(0.01)


async def test_with_a_problem_every_setting_still_comes_into_view() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        await pilot.press("tab", "full_stop", "tab")
        screen.query_one("#boosted", Input).value = "love"
        for key in (*["up"] * 9, *["down"] * 16):
            await pilot.press(key)
            await pilot.pause()
            assert screen.focused
            assert screen.find_widget(screen.focused).visible_region.area, screen.focused
