from __future__ import annotations

import math
from collections.abc import AsyncIterator

import pytest
from textual import events
from textual.content import Content
from textual.geometry import Size
from textual.pilot import Pilot
from textual.widgets import Input, Label, Static

from tests.tui.fake import FakeBackend, app_with, main_screen, running, token
from tui.app import GPTApp
from tui.backend import BackendError, Completion, Done, EngineDiedError, Event, Status, Steps
from tui.commands import key_commands
from tui.screens.main import MainScreen
from tui.screens.models import ModelPicker
from tui.widgets.dial import Dial, Tick
from tui.widgets.hints import Hints
from tui.widgets.inspector import Inspector
from tui.widgets.prompt import Prompt
from tui.widgets.status import Status as StatusLine
from tui.widgets.token_view import TokenView


async def until_written(pilot: Pilot[None], screen: MainScreen) -> None:
    while screen.is_writing:
        await pilot.pause()
    await pilot.pause()


async def write(pilot: Pilot[None], app: GPTApp, text: str) -> MainScreen:
    await pilot.press(*text, "enter")
    screen = main_screen(app)
    await until_written(pilot, screen)
    return screen


def said(screen: MainScreen) -> str:
    return Content.from_markup(str(screen.query_one(Prompt).border_subtitle)).plain


def complaints(app: GPTApp) -> list[str]:
    return [notification.message for notification in app._notifications]


async def test_a_prompt_becomes_text_with_numbers() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "abc")
        assert screen.document.text == "abchello"
        assert [node.is_prompt for node in screen.document.path] == [True] * 3 + [False] * 5
        assert screen.query_one(Prompt).text == ""
        assert said(screen) == "Done: 5 tokens"
        newest = screen.query_one(Inspector).step
        assert newest and newest.text == "o"
        status = str(screen.query_one(StatusLine).render())
        assert "fake" in status and "cpu" in status and "float32" in status
        assert "context 8/64" in status
        assert "10.0 tokens/s" in status
        expected = math.exp(-math.fsum(math.log(0.9 / i) for i in range(1, 6)) / 5)
        assert f"perplexity {expected:.2f}" in status


async def test_a_prompt_sent_early_waits_and_says_why() -> None:
    backend = FakeBackend("hi")
    backend.ready.clear()
    app = app_with(backend)
    async with running(app) as pilot:
        await pilot.press(*"abc", "enter")
        screen = main_screen(app)
        assert said(screen) == "Waiting for the model: loading PyTorch"
        await pilot.press(*"more")
        assert screen.query_one(Prompt).text == "more"
        backend.ready.set()
        await until_written(pilot, screen)
        assert screen.document.text == "abchi"
        assert screen.query_one(Prompt).text == "more"


async def test_escape_says_that_the_model_still_loads() -> None:
    backend = FakeBackend("hi")
    backend.ready.clear()
    app = app_with(backend)
    async with running(app) as pilot:
        while not main_screen(app).session.waiting:
            await pilot.pause()
        await pilot.press("escape")
        assert complaints(app) == ["Loading PyTorch. Ctrl+O chooses another model."]
        backend.ready.set()
        while main_screen(app).session.loaded is None:
            await pilot.pause()
        app.clear_notifications()
        await pilot.press("escape")
        assert complaints(app) == ["There is nothing to stop or to close."]


async def test_what_is_sent_before_the_settings_are_there_is_sent_with_them() -> None:
    backend = FakeBackend("hi")
    app = app_with(backend, length=1)
    async with app.run_test(size=(110, 32)) as pilot:
        screen = main_screen(app)
        assert not screen.query(Dial)
        screen.post_message(Prompt.Sent("abc"))
        while not backend.requests:
            await pilot.pause()
        await until_written(pilot, screen)
        assert screen.document.text == "abch"


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_stop_keeps_the_text_and_is_usable_at_once(key: str) -> None:
    backend = FakeBackend("a long answer that never ends")
    app = app_with(backend)
    async with running(app) as pilot:
        backend.go_on.clear()
        await pilot.press(*"ab", "enter")
        await pilot.press(key)
        screen = main_screen(app)
        await until_written(pilot, screen)
        assert said(screen) == "Stopped"
        assert screen.document.text == "aba"
        await write(pilot, app, "c")
        assert screen.document.text.startswith("abaca long")


class StoppedEarly(FakeBackend):
    """A run is stopped while its prompt is read."""

    async def complete(self, request: Completion) -> AsyncIterator[Event]:
        self.requests.append(request)
        await self.ready.wait()
        yield Steps([token(len(request.ids), request.text[0], drawn=False)], is_prompt=True)
        yield Done("cancelled", 0, 0.0)


async def test_a_prompt_that_was_stopped_while_it_was_read_is_not_lost() -> None:
    backend = StoppedEarly()
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "king")
        assert said(screen) == "Stopped"
        assert screen.document.text == ""
        prompt = screen.query_one(Prompt)
        assert prompt.text == "king"
        backend.ready.clear()
        await pilot.press("enter", *"and")
        backend.ready.set()
        await until_written(pilot, screen)
        assert prompt.text == "kingand"
        assert backend.requests[1].ids == []


async def test_settings_hold_for_the_next_run() -> None:
    backend = FakeBackend("x")
    app = app_with(backend, seed=11, length=3)
    async with running(app, size=(110, 40)) as pilot:
        screen = await write(pilot, app, "a")
        first = backend.requests[0]
        assert (first.sampling.seed, first.max_new_tokens, first.slide) == (11, 3, False)
        assert first.sampling.temperature == 0.8
        temperature = screen.query_one("#temperature", Dial)
        temperature.focus()
        await pilot.press("right", "right", "left")
        assert temperature.value == "0.9"
        screen.query_one("#top_k", Dial).value = "7"
        screen.query_one("#seed", Dial).value = ""
        screen.query_one("#slide", Tick).value = True
        screen.query_one(Prompt).focus()
        await write(pilot, app, "b")
        second = backend.requests[1]
        assert (second.sampling.temperature, second.sampling.top_k) == (0.9, 7)
        assert second.slide
        shown = screen.query_one("#seed", Dial).placeholder
        assert shown == f"random; last {second.sampling.seed}"
        assert second.ids == [ord(c) for c in "ax"]


async def test_turns_are_taken_where_they_are_asked_for() -> None:
    backend = FakeBackend("x")
    app = app_with(backend, chat=True, system="You are a cat.")
    async with running(app, size=(110, 40)) as pilot:
        screen = await write(pilot, app, "a")
        assert backend.requests[0].chat
        assert backend.requests[0].system == "You are a cat."
        screen.query_one("#chat", Tick).value = False
        await write(pilot, app, "b")
        assert not backend.requests[1].chat


async def test_a_setting_that_makes_no_sense_is_named_and_the_prompt_stays() -> None:
    app = app_with(FakeBackend())
    async with running(app, size=(110, 40)) as pilot:
        main_screen(app).query_one("#top_p", Dial).value = "7"
        screen = await write(pilot, app, "abc")
        assert complaints(app) == ["top-p is 7.0; it must be a number from 0 to 1"]
        assert screen.query_one(Prompt).text == "abc"
        assert screen.document.text == ""


async def test_an_error_gives_the_prompt_back_and_shows_hostile_text_harmlessly() -> None:
    app = app_with(FakeBackend(error=BackendError("no [/INST] \x1b]0;x\x07 here")))
    async with running(app) as pilot:
        screen = await write(pilot, app, "abc")
        assert complaints(app) == ["No [/INST] ␛]0;x␇ here"]
        assert screen.query_one(Prompt).text == "abc"


async def test_hostile_status_of_a_model_that_loads_is_harmless() -> None:
    backend = FakeBackend("hi", status="loading [/INST] \x1b[2J")
    backend.ready.clear()
    app = app_with(backend)
    async with running(app) as pilot:
        await pilot.press(*"abc", "enter")
        screen = main_screen(app)
        assert said(screen) == "Waiting for the model: loading [/INST] ␛[2J"
        backend.ready.set()
        await until_written(pilot, screen)


async def test_a_dead_engine_keeps_the_text_and_one_key_starts_it_again() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "abc")
        backend.error = EngineDiedError("the engine has ended by signal 9: killed")
        await write(pilot, app, "d")
        assert screen.document.text == "abchello"
        assert said(screen) == "Press Ctrl+R to restart the engine"
        backend.error = None
        await pilot.press("ctrl+r")
        assert backend.closed
        await pilot.press("enter")
        await until_written(pilot, screen)
        assert screen.document.text == "abchellodhello"


async def test_tokens_are_selected_by_keys_and_mouse() -> None:
    app = app_with(FakeBackend("hello world"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab\n")
        view = screen.query_one(TokenView)
        view.focus()
        await pilot.press("left", "left")
        assert view.index == len(screen.document.path) - 3
        step = screen.query_one(Inspector).step
        assert step and step.text == "r"
        await pilot.press("home")
        assert view.index == 0
        await pilot.press("end")
        assert view.index == len(screen.document.path) - 1
        await pilot.click(TokenView, offset=(2 + 1, 1))
        assert view.index == 1


async def test_go_on_from_an_earlier_token_keeps_the_old_branch() -> None:
    backend = FakeBackend("one")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        backend.reply = "two"
        screen.query_one(TokenView).focus()
        await pilot.press("home", "right", "ctrl+g")
        await until_written(pilot, screen)
        assert screen.document.text == "abtwo"
        assert backend.requests[-1].ids == [ord("a"), ord("b")]
        await pilot.press("ctrl+b")
        assert screen.document.text == "abone"
        await pilot.press("ctrl+b")
        assert screen.document.text == "abtwo"


async def test_enter_on_an_empty_field_goes_on_and_new_text_begins_anew() -> None:
    backend = FakeBackend("one")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "a")
        await pilot.press("enter")
        await until_written(pilot, screen)
        assert screen.document.text == "aoneone"
        await pilot.press("ctrl+n")
        assert screen.document.text == ""
        assert screen.query_one(Inspector).step is None


async def test_enter_and_line_breaks_keep_their_place_in_what_is_typed() -> None:
    backend = FakeBackend("x")
    app = app_with(backend)
    async with running(app) as pilot:
        for key in ("a", "ctrl+j", "b", "enter"):  # all at once, as under load
            app.post_message(events.Key(key, key if len(key) == 1 else None))
        while not backend.requests:
            await pilot.pause()
        assert backend.requests[0].text == "a\nb"


async def test_keys_that_edit_keep_their_place_in_what_is_typed() -> None:
    app = app_with(FakeBackend("x"))
    async with running(app) as pilot:
        keys = ["a", "x", "backspace", "b", "d", "left", "c", "home", "delete", "z", "end", "!"]
        for key in keys:
            app.post_message(events.Key(key, key if len(key) == 1 else None))
        prompt = app.screen.query_one(Prompt)
        while not prompt.text.endswith("!"):
            await pilot.pause()
        await pilot.pause()
        assert prompt.text == "zbcd!"


async def pick(pilot: Pilot[None], app: GPTApp, *keys: str) -> None:
    await pilot.press("ctrl+o")
    while not isinstance(app.screen, ModelPicker):
        await pilot.pause()
    await pilot.press(*keys)
    while isinstance(app.screen, ModelPicker):
        await pilot.pause()
    await until_written(pilot, main_screen(app))


@pytest.mark.usefixtures("tiny_directory")
async def test_another_model_reads_the_same_text() -> None:
    app = app_with(FakeBackend("lo"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "hel")
        await pick(pilot, app, "escape")
        assert len(screen.document.path) == 5
        await pick(pilot, app, "down", "enter")
        assert "tiny" in str(screen.query_one(StatusLine).render())
        assert screen.document.text == "hello"
        assert [node.step.text for node in screen.document.path] == ["he", "ll", "o"]
        assert [node.is_prompt for node in screen.document.path] == [True, True, False]


@pytest.mark.usefixtures("tiny_directory")
async def test_a_model_that_cannot_read_the_text_gives_it_back() -> None:
    backend = FakeBackend("lo")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "hel")
        backend.error = BackendError("this model knows no 'h'")
        await pick(pilot, app, "down", "enter")
        assert complaints(app) == ["This model knows no 'h'"]
        assert screen.query_one(Prompt).text == "hello"


async def test_line_breaks_in_a_prompt() -> None:
    backend = FakeBackend("x")
    app = app_with(backend)
    async with running(app) as pilot:
        await pilot.press("a", "ctrl+j", "b", "enter")
        await until_written(pilot, main_screen(app))
        assert backend.requests[0].text == "a\nb"


async def test_the_view_follows_the_end_unless_the_reader_scrolled_up() -> None:
    backend = FakeBackend("line\n" * 60)
    app = app_with(backend, length=300)
    async with running(app) as pilot:
        screen = await write(pilot, app, "a")
        view = screen.query_one(TokenView)
        assert view.is_vertical_scroll_end and view.max_scroll_y > 20
        view.scroll_to(y=5, animate=False)
        await pilot.pause()
        await write(pilot, app, "b")
        assert view.scroll_offset.y == 5
        view.action_newest()
        await pilot.pause()
        await write(pilot, app, "c")
        assert view.is_vertical_scroll_end


async def test_the_end_stays_in_view_while_the_prompt_grows() -> None:
    app = app_with(FakeBackend("line\n" * 60), length=300)
    async with running(app) as pilot:
        screen = await write(pilot, app, "a")
        view, height = screen.query_one(TokenView), screen.query_one(TokenView).size.height
        await pilot.press("ctrl+j", "ctrl+j", "ctrl+j")
        while view.size.height == height:
            await pilot.pause()
        assert view.is_vertical_scroll_end


async def test_a_long_prompt_leaves_rows_to_the_text_in_a_small_window() -> None:
    app = app_with(FakeBackend("line\n" * 9), length=45)
    async with running(app, size=(60, 20)) as pilot:
        screen = await write(pilot, app, "a")
        screen.prompt.text = "a\nb\nc\nd\ne\nf\ng"
        while screen.prompt.size.height != 3:
            await pilot.pause()
        assert screen.view.size.height >= 2


@pytest.mark.parametrize("focus", [Prompt, Dial])
async def test_page_keys_scroll_the_text_without_a_way_to_it(focus: type[Prompt | Dial]) -> None:
    app = app_with(FakeBackend("line\n" * 60), length=300)
    async with running(app) as pilot:
        screen = await write(pilot, app, "a")
        view, field = screen.query_one(TokenView), screen.query(focus).first()
        field.focus()
        while not field.has_focus:
            await pilot.pause()
        end = view.max_scroll_y
        await pilot.press("pageup")
        while view.scroll_offset.y != end - view.scrollable_content_region.height:
            await pilot.pause()
        assert not view.is_vertical_scroll_end
        await pilot.press("pagedown")
        while not view.is_vertical_scroll_end:
            await pilot.pause()
        assert screen.focused is field


@pytest.mark.parametrize("keys", [["ctrl+n"], []])
async def test_what_is_written_is_in_view_after_the_person_has_scrolled(keys: list[str]) -> None:
    app = app_with(FakeBackend("line\n" * 60), length=300)
    async with running(app) as pilot:
        main_screen(app).query_one("#slide", Tick).value = True
        screen = await write(pilot, app, "a")
        await pilot.press("tab", "home", "pageup", *keys, "escape")
        await write(pilot, app, "b")
        assert screen.view.is_vertical_scroll_end and screen.view.max_scroll_y


@pytest.mark.parametrize("key", ["2", "r"])
async def test_after_a_run_that_forks_the_person_is_told_the_way_back(key: str) -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        assert said(screen) == "Done: 5 tokens"
        await pilot.press("tab", "left")
        backend.reply = "!?"
        await pilot.press(key)
        await until_written(pilot, screen)
        assert said(screen) == "Done: 2 tokens; Ctrl+B shows another branch"
        new = screen.document.text
        await pilot.press("ctrl+b")
        assert screen.document.text == "abhello" != new


async def test_page_keys_stay_in_a_prompt_that_is_not_all_in_view() -> None:
    app = app_with(FakeBackend("line\n" * 60), length=300)
    async with running(app) as pilot:
        screen = await write(pilot, app, "a")
        prompt = screen.query_one(Prompt)
        prompt.text = "\n" * 50
        await pilot.pause()
        await pilot.press("pagedown", "pagedown")
        below, _ = prompt.cursor_location
        assert below > 1
        await pilot.press("pageup")
        assert 0 < prompt.cursor_location[0] < below
        assert screen.query_one(TokenView).is_vertical_scroll_end


async def test_the_selected_token_shows_spaces_and_line_breaks() -> None:
    app = app_with(FakeBackend(" \n"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "a")
        view = screen.query_one(TokenView)
        assert view.render_line(0).text.startswith("a ⏎")
        view.focus()
        await pilot.press("left")
        assert view.render_line(0).text.startswith("a· ")


async def test_less_probable_tokens_are_coloured_and_prompts_told_apart() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        segments = list(screen.query_one(TokenView).render_line(0))
        styles = {segment.text: segment.style for segment in segments}
        ground = styles["h"].bgcolor  # 90 %
        assert styles["a"].italic and not styles["h"].italic
        assert styles["e"].bgcolor != ground  # 45 %
        assert styles["l"].bgcolor not in (ground, styles["e"].bgcolor)


@pytest.mark.parametrize("size", [(1, 1), (20, 5), (60, 20), (80, 24), (300, 100)])
async def test_any_size_and_resizing_while_streaming(size: tuple[int, int]) -> None:
    app = app_with(FakeBackend("some words " * 15), length=150)
    async with running(app, size=size) as pilot:
        await pilot.press("a", "enter")
        await pilot.resize_terminal(90, 20)
        await pilot.resize_terminal(*size)
        await until_written(pilot, main_screen(app))
        assert len(main_screen(app).document.path) == 151


async def test_footer_and_palette_offer_the_same_actions() -> None:
    app = app_with(FakeBackend())
    async with running(app, size=(140, 32)) as pilot:
        await pilot.pause(0.1)
        shown = str(app.screen.query_one(Hints).render())
        assert all(label in shown for label in ("send", "new text", "quit", "F1 help"))
        commands = {command.name.lower() for command in key_commands(app.screen)}
        assert {"stop", "continue from here", "new text", "next branch"} <= commands


async def test_a_mistake_behind_a_key_is_said_and_the_program_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = app_with(FakeBackend())
    missing: dict[str, str] = {}
    async with running(app) as pilot:
        screen = main_screen(app)
        monkeypatch.setattr(GPTApp, "is_headless", False)
        monkeypatch.setattr(screen, "action_new_text", lambda: missing["\x1b[31m"], raising=False)
        await pilot.press("ctrl+n")
        assert "That key failed (KeyError" in complaints(app)[-1]
        assert "\x1b" not in complaints(app)[-1]
        monkeypatch.undo()
        await pilot.press("a")
        assert screen.query_one(Prompt).text == "a"


async def test_every_key_that_cannot_act_while_the_model_writes_says_so() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        backend.go_on.clear()
        await pilot.press("a", "b", "enter")
        screen = main_screen(app)
        while not screen.document.path:
            await pilot.pause()
        screen.query_one(TokenView).focus()
        keys = "e E p v w k 1 9 i m t z b delete left_square_bracket right_square_bracket"
        for key in [*keys.split(), "f3", "f5", "f8", "ctrl+b", "ctrl+g", "ctrl+n", "ctrl+o"]:
            app.clear_notifications()
            await pilot.press(key)
            assert complaints(app) == ["The model is still at work; Esc stops it."], key
        backend.go_on.set()


async def test_how_far_a_prompt_is_read_stands_below_it_and_a_lost_gpu_is_told() -> None:
    class Reading(FakeBackend):
        async def complete(self, request: Completion) -> AsyncIterator[Event]:
            yield Status("reading 1,200 of 45,000 tokens")
            await self.go_on.wait()
            yield Status("the GPU failed", is_notice=True)
            async for event in super().complete(request):
                yield event

    backend = Reading()
    backend.go_on.clear()
    app = app_with(backend)
    async with running(app) as pilot:
        await pilot.press("a", "enter")
        await pilot.pause()
        prompt = main_screen(app).query_one(Prompt)
        said = Content.from_markup(str(prompt.border_subtitle)).plain
        assert said == "reading 1,200 of 45,000 tokens; Esc stops"
        assert complaints(app) == []
        backend.go_on.set()
        await until_written(pilot, main_screen(app))
        assert complaints(app) == ["The GPU failed"]


async def test_a_screen_ignores_a_size_that_the_terminal_no_longer_has() -> None:
    # Two of them, each drawn and sent again, would call for each other for ever.
    app = app_with(FakeBackend())
    async with running(app, size=(110, 32)) as pilot:
        screen = main_screen(app)
        for old in (Size(60, 20), Size(5, 5)):
            screen.post_message(events.Resize(old, old))
            await pilot.pause()
            assert screen.status.size.width == 110
        await pilot.resize_terminal(90, 30)
        await pilot.pause()
        assert screen.status.size.width == 90


async def test_letters_in_an_empty_text_begin_one() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = main_screen(app)
        await pilot.press("tab", *"The g1x", "enter")
        assert screen.document.text.startswith("The g1x")


async def test_a_bookmark_is_told() -> None:
    app = app_with(FakeBackend("hi"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "abc")
        screen.view.focus()
        await pilot.press("m")
        assert complaints(app) == ["Bookmark set"]
        await pilot.press("m")
        assert complaints(app) == ["Bookmark removed"]


async def test_a_problem_of_the_settings_is_shown_whole() -> None:
    app = app_with(FakeBackend("hi"))
    async with running(app, size=(120, 40)) as pilot:
        screen = main_screen(app)
        assert screen.controls
        problem = screen.controls.query_one("#problem", Label)
        for name, value, said in (
            ("temperature", "-1", "temperature is -1.0; it must be a number from 0 to 100"),
            ("top_k", "2.5", "top-k is '2.5'"),
            ("length", "-5", "length is -5"),
            ("seed", "-1", "seed is -1"),
        ):
            dial = screen.controls.query_one(f"#{name}", Dial)
            before, dial.value = dial.value, value
            await pilot.pause()
            assert problem.display
            assert said in " ".join(str(problem.render()).split())
            assert problem.region.height >= 2 or len(said) < problem.region.width
            dial.value = before
            await pilot.pause()
            assert not problem.display


async def test_a_refused_export_asks_again_with_the_name_that_was_typed() -> None:
    app = app_with(FakeBackend("hi"))
    async with running(app) as pilot:
        await write(pilot, app, "abc")
        await pilot.press("f4")
        app.screen.query_one(Input).value = "nowhere/text.pdf"
        await pilot.press("enter")
        await pilot.pause()
        assert app.screen.query_one(Input).value == "nowhere/text.pdf"
        assert str(app.screen.query_one("#problem", Static).render())


async def test_an_engine_that_was_restarted_is_not_called_a_crash() -> None:
    backend = FakeBackend(error=BackendError("stopped: the engine was restarted"))
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "abc")
        assert said(screen) == "Enter sends"
        assert screen.query_one(Prompt).text == "abc"
