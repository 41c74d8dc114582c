"""The panels beside the text, the welcome, and presenter mode."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import cast

import pytest
from textual.content import Content
from textual.widgets import Checkbox, Input

from gpt.step import Candidate
from tests.tui.fake import FakeBackend, app_with, main_screen, running
from tests.tui.test_app import complaints, until_written, write
from tests.tui.test_branching import at
from tui.backend import BackendError, CancelledAnswerError
from tui.runs import CONTEXT_FULL, READY
from tui.screens.inside import InsideScreen
from tui.widgets.big_bars import BigBars
from tui.widgets.dial import Dial
from tui.widgets.panels import ALWAYS, NAMES
from tui.widgets.welcome import SHAKESPEARE, Welcome, openings_of


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((60, 20), {"token"}),
        ((80, 24), {"token"}),
        ((80, 50), {"token"}),
        ((120, 24), {"token"}),
        ((120, 40), {"token", "sampling"}),
        ((200, 24), {"token", "layers"}),
        ((200, 60), {"token", "sampling", "layers"}),
    ],
)
async def test_every_panel_is_visible_or_has_a_tab(size: tuple[int, int], shown: set[str]) -> None:
    app = app_with(FakeBackend())
    async with running(app, size) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 2)
        panels = screen.panels
        assert {name for name in NAMES if panels.get_child_by_id(name).display} == shown
        assert {*panels.tabs, *ALWAYS[panels.arrangement]} == set(NAMES)
        seen = set()
        for _ in panels.tabs:
            await pilot.press("full_stop")
            await pilot.pause()
            seen |= panels.shown
            for name in panels.shown:
                region = panels.get_child_by_id(name).region
                assert region.width >= 40 and region.height >= 6, (name, region)
        assert seen == set(NAMES)


async def test_bars_follow_the_dials_and_never_show_another_tokens_numbers() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 3)
        assert screen.inspector.now is None  # the settings that drew it
        screen.query_one("#temperature", Dial).value = "1.5"
        await pilot.pause()
        assert screen.inspector.now == {ord("e"): 1.0, 1: 0.0}
        backend.error = None
        answer = asyncio.Event()
        first = backend.waterfall

        async def slow(*asked: object) -> object:
            await answer.wait()
            return await first(*asked)  # type: ignore[arg-type]

        backend.waterfall = slow  # type: ignore[assignment,method-assign]
        await pilot.press("right")
        assert screen.inspector.now is None  # not the numbers of the other token
        screen.query_one("#temperature", Dial).value = "0.8"
        await pilot.pause()
        answer.set()
        await pilot.pause()
        assert screen.inspector.now is None  # an older answer comes too late


async def test_the_odds_of_a_token_are_shown_with_its_own_seed() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        seed = screen.document.path[-1].sampling
        await write(pilot, app, "c")
        await at(pilot, screen, 3)
        await pilot.press("f2")
        await pilot.pause()
        assert seed and backend.asked[-1][2].seed == seed.seed
        assert backend.requests[-1].sampling.seed != seed.seed


async def test_the_layers_follow_the_cursor_and_colour_the_text_until_esc() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 3)
        await pilot.press("e")
        while not str(screen.view.border_title).startswith("Attention"):
            await pilot.pause()
        assert screen.view.has_focus
        await pilot.press("left")
        while not any('P("h")' in row.text for row in screen._compositor.render_strips()):
            await pilot.pause()
        await pilot.press("escape")
        await pilot.pause()
        assert screen.panels.chosen == "token" and screen.view.has_focus
        assert str(screen.view.border_title).startswith("Text")
        await pilot.press("E")
        while "Influence" not in str(screen.view.border_title):
            await pilot.pause()
        await pilot.press("escape")
        assert str(screen.view.border_title).startswith("Text") and screen.view.has_focus
        await pilot.press("escape")
        await pilot.pause()
        assert screen.prompt.has_focus


async def test_an_answer_that_nobody_waits_for_is_no_problem() -> None:
    app = app_with(FakeBackend("hello", error=None))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        screen.session.backend.error = CancelledAnswerError("stopped")  # type: ignore[attr-defined]
        await at(pilot, screen, 3)
        await pilot.press("p")
        await pilot.pause()
        assert not complaints(app)


async def test_f2_in_one_column_leaves_no_key_to_a_hidden_field() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 3)
        screen.panels.chosen = "sampling"
        await pilot.pause()
        screen.query_one("#temperature", Dial).focus()
        await pilot.pause()
        await pilot.press("f2")
        await pilot.pause()
        assert screen.view.has_focus and screen.table.region.height > 5


async def test_the_welcome_starts_a_text_and_goes() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        welcome = main_screen(app).query_one(Welcome)
        assert welcome.display
        await pilot.press("down", "down", "down", "up")
        assert welcome.chosen == 2
        await pilot.press("x")
        await pilot.pause()
        assert not welcome.display
        await pilot.press("backspace")
        await pilot.pause()
        assert welcome.display
        await pilot.press("enter")
        await until_written(pilot, main_screen(app))
        assert backend.requests[0].text == welcome.openings.third
        assert not welcome.display
        await pilot.press("ctrl+n")
        await pilot.pause()
        assert welcome.display
    assert openings_of("shakespeare") is SHAKESPEARE


async def test_a_chat_opens_with_messages() -> None:
    app = app_with(FakeBackend("hi"), chat=True)
    async with running(app, size=(120, 40)) as pilot:
        screen = main_screen(app)
        welcome, prompt = screen.query_one(Welcome), screen.prompt
        assert welcome.opening.endswith("?") and "message" in prompt.placeholder
        screen.query_one("#chat", Checkbox).value = False
        await pilot.pause()
        assert welcome.opening == "Once upon a time" and "opening line" in prompt.placeholder
        screen.query_one("#chat", Checkbox).value = True
        await pilot.pause()
        assert welcome.opening.endswith("?")
        await pilot.press("enter")
        await until_written(pilot, screen)
        assert "Type a message" in prompt.placeholder, "also after an answer"


async def test_the_numbers_of_the_large_bars_are_the_keys() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        view = await at(pilot, screen, 4)
        node = screen.document.path[4]
        others = [Candidate(n, bytes([97 + n]), -1.0 - n) for n in range(8)]
        own = Candidate(node.step.token_id, node.step.bytes, -9.5)
        node.step = node.step._replace(candidates=(*others, own), logprob=-9.5)
        screen.show_token()
        await pilot.press("P")
        await pilot.pause()
        bars = screen.query_one(BigBars)
        signs = [line.split()[0] for line in str(bars.render()).splitlines()[::3]]
        assert signs[:-1] == [str(n) for n in range(1, len(signs))] and signs[-1] == "9▸"
        await pilot.press("9")
        assert complaints(app)[-1] == "This candidate is the token in the text."
        assert screen.document.text == "abhello" and view.index == 4


async def test_presenter_mode_hides_a_token_until_the_second_key() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend, length=1)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        screen.view.focus()
        await pilot.pause()
        await pilot.press("P")
        await pilot.pause()
        bars = screen.query_one(BigBars)
        assert bars.step is screen.document.path[-1].step and not screen.panels.region.area
        n = len(screen.document.path)
        await pilot.press("space")
        await until_written(pilot, screen)
        assert len(screen.document.path) == n + 1 and bars.step is None
        await pilot.press("1")
        assert complaints(app)[-1] == "Space shows the token first."
        assert len(screen.document.path) == n + 1
        assert len(screen.view._rows.first_row) == n
        await pilot.press("space")
        await pilot.pause()
        assert bars.step is screen.document.path[-1].step
        assert len(screen.view._rows.first_row) == n + 1
        backend.reply = ""
        await pilot.press("space")
        await until_written(pilot, screen)
        await pilot.pause()
        assert complaints(app) and not screen.is_hiding
        await pilot.press("f2", "escape")
        assert screen.is_presenting and not screen.table.display, "the last thing that was opened"
        await pilot.press("escape")
        await pilot.pause()
        assert not screen.is_presenting and screen.panels.region.area


async def test_large_bars_say_their_scale_and_with_what_probability_was_drawn() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        screen.view.focus()
        await pilot.press("P")
        await pilot.pause()
        bars = screen.query_one(BigBars)
        assert bars.border_title == "The model's probabilities · full bar 20%"
        assert bars.step and bars.step.logprob is not None
        bars.step = bars.step._replace(sampling_logprob=math.log(0.25))
        said = "The model's probabilities · drawn with 25.0 % · full bar 20%"
        assert bars.border_title == said


async def test_a_text_file_is_read_from_the_program(tmp_path: Path) -> None:
    app = app_with(FakeBackend())
    file = tmp_path / "a text.txt"
    file.write_text("to be or")
    async with running(app) as pilot:
        await pilot.press("f10")
        await pilot.pause()
        app.screen.query_one(Input).value = str(tmp_path)
        await pilot.press("enter")
        while not complaints(app):
            await pilot.pause()
        assert "is not a file" in complaints(app)[-1]
        assert app.screen.query_one(Input).value == str(tmp_path), "to be typed right"
        app.screen.query_one(Input).value = str(file)
        await pilot.press("enter")
        while main_screen(app).document.text != "to be or":
            await pilot.pause()
        screen = main_screen(app)
        assert screen.session.perplexity == pytest.approx(5)
        cast(FakeBackend, screen.session.backend).error = BackendError("It does not know '1'")
        await pilot.press("f10")
        await pilot.pause()
        app.screen.query_one(Input).value = str(file)
        await pilot.press("enter")
        while "It does not know '1'" not in complaints(app):
            await pilot.pause()
        assert screen.document.text == "to be or" and screen.prompt.text == ""


async def test_esc_closes_the_odds_before_it_leaves_the_text() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        screen.view.focus()
        await pilot.press("f2")
        await pilot.pause()
        assert screen.table.display
        await pilot.press("escape")
        assert not screen.table.display and screen.view.has_focus
        await pilot.press("escape")
        assert screen.prompt.has_focus


async def test_what_replaces_a_token_is_followed_to_the_end() -> None:
    app = app_with(FakeBackend("line\n" * 60))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        screen.view.focus()
        await pilot.press("home")
        await pilot.pause()
        assert screen.view.scroll_offset.y == 0
        screen.write("new", 1)
        await until_written(pilot, screen)
        view = screen.view
        assert view.index == len(screen.document.path) - 1
        while round(view.scroll_offset.y) < view.max_scroll_y:
            await pilot.pause()
        assert view.max_scroll_y > 0


async def test_an_engine_that_is_restarted_twice_at_once_is_followed_once_each() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = main_screen(app)
        before = len(backend.loaded)
        screen.action_restart()
        screen.action_restart()
        while len(backend.loaded) < before + 2 or not screen.session.loaded:
            await pilot.pause()
        assert complaints(app) == ["The engine starts again; your text stays."]


async def test_that_the_context_is_full_is_said_as_long_as_it_holds() -> None:
    app = app_with(FakeBackend("h" * 62))  # with "ab" it fills the context of 64 tokens
    async with running(app, (60, 20)) as pilot:
        screen = await write(pilot, app, "ab")
        controls = screen.controls
        assert controls

        def said() -> str:
            return Content.from_markup(str(screen.prompt.border_subtitle)).plain

        def is_on_the_screen() -> bool:
            rows = [row.text for row in screen._compositor.render_strips()]
            return any(CONTEXT_FULL.message in row for row in rows)

        screen.draw(CONTEXT_FULL)
        await at(pilot, screen, 10)
        await pilot.pause()
        assert said() == CONTEXT_FULL.message and is_on_the_screen()
        screen.query_one("#slide", Checkbox).value = True
        await pilot.pause()
        assert said() == READY.message
        screen.query_one("#slide", Checkbox).value = False
        screen.draw(CONTEXT_FULL)
        await pilot.press("delete")
        await pilot.pause()
        assert len(screen.document.path) == 10 and said() == READY.message


@pytest.mark.parametrize("key", ["enter", "L"])
async def test_the_panel_of_the_layers_leads_inside(key: str) -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 3)
        await pilot.press("a")
        await pilot.pause()
        assert app.focused is screen.layers_panel
        await pilot.press(key)
        await pilot.pause()
        assert isinstance(app.screen, InsideScreen)


async def test_a_checkbox_is_seen_without_a_tick_and_without_colour() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (120, 40)) as pilot:
        screen = await write(pilot, app, "ab")

        def rows() -> str:
            return "\n".join(row.text for row in screen._compositor.render_strips())

        assert "[ ] Slide context" in rows()
        screen.query_one("#slide", Checkbox).value = True
        await pilot.pause()
        assert "[X] Slide context" in rows() and "[ ] Chat" in rows()


async def test_a_message_goes_with_the_second_key_after_it() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 3)
        for key, said in (
            ("z", "There is nothing to undo; Del deletes from a token on."),
            ("x", 'Banned "e", in this and other texts'),
        ):
            await pilot.press(key)
            assert complaints(app) == [said]
            await pilot.press("left")  # typed at once with it
            assert complaints(app) == [said]
            await pilot.press("right")
            assert complaints(app) == []
        screen.complain("The engine stopped.")
        await pilot.press("left", "right", "left")
        assert complaints(app) == ["The engine stopped."]  # it is no answer to a key


async def test_a_message_that_was_read_goes_with_the_next_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 3)
        await pilot.press("z")
        assert complaints(app) == ["There is nothing to undo; Del deletes from a token on."]
        monkeypatch.setattr("tui.messages.LONG_ENOUGH", -1.0)  # as if a second had passed
        await pilot.press("left")
        assert complaints(app) == []


async def test_enter_in_the_text_continues_at_its_end() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 3)
        await pilot.press("enter")
        await until_written(pilot, screen)
        assert screen.document.text == "abhellohello" and screen.document.branch_count == 1


async def test_an_exclamation_mark_goes_from_surprise_to_surprise() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        known = [(node.step.logprob, i) for i, node in enumerate(screen.document.path)]
        order = [i for p, i in sorted((p, i) for p, i in known if p is not None)]
        await at(pilot, screen, order[-1])
        for n, index in enumerate(order, 1):
            await pilot.press("!")
            assert screen.view.index == index
            assert complaints(app) == [f"Most surprising: {n} of {len(order)}"]
        await pilot.press("!")
        assert screen.view.index == order[0], "around"


async def test_what_comes_between_a_cut_and_its_drawing_finds_no_token() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (120, 40)) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 4)
        screen.document.cut(0)  # as a run does it, before the text is drawn
        assert screen.index is None and screen.step is None
        screen.show_token()
        screen.panels.chosen = "layers"
        screen._examine()  # the cursor has rested
        await pilot.pause()
        assert not complaints(app) and screen.refusal("take", (1,))
