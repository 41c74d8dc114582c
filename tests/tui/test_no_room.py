"""A run that cannot write anything leaves the text as it was."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from textual.pilot import Pilot
from textual.widgets import Checkbox

from tests.tui.fake import LOADED, FakeBackend, app_with, running
from tests.tui.test_app import complaints, until_written, write
from tests.tui.test_branching import at
from tui.app import GPTApp
from tui.backend import BackendError, Completion, Done, EngineDiedError, Event
from tui.runs import CONTEXT_FULL, SLIDE
from tui.screens.main import MainScreen

FULL = LOADED.block_size


async def long_text(pilot: Pilot[None], app: GPTApp) -> MainScreen:
    """A text that has slid, whose slide is off again, with a token after the context selected."""
    screen = await write(pilot, app, "ab")
    screen.query_one("#slide", Checkbox).value = False
    await at(pilot, screen, FULL + 10)
    return screen


@pytest.mark.parametrize("key", ["r", "1", "2", "ctrl+g", "R"])
async def test_what_is_longer_than_the_context_is_refused_before_the_text_is_cut(key: str) -> None:
    app = app_with(FakeBackend("xy" * FULL), length=2 * FULL)
    async with running(app) as pilot:
        screen = await long_text(pilot, app)
        if key == "R":
            screen.session.document.path[-2].is_prompt = True  # the last answer is the last token
        text, index = screen.document.text, screen.view.index
        asked = len(screen.session.backend.requests)  # type: ignore[attr-defined]
        await pilot.press(key)
        await until_written(pilot, screen)
        assert screen.document.text == text and screen.view.index == index
        assert len(screen.session.backend.requests) == asked  # type: ignore[attr-defined]
        assert SLIDE in complaints(app)[-1] and str(FULL) in complaints(app)[-1]


async def test_a_prompt_at_the_end_of_a_full_context_goes_on_with_the_second_enter() -> None:
    app = app_with(FakeBackend("x" * FULL), length=FULL)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        screen.document.cut(FULL)
        screen.show_text()
        screen.say("")
        app.clear_notifications()
        screen.prompt.focus()
        await pilot.press("c", "enter")
        await pilot.pause()
        assert complaints(app) == [CONTEXT_FULL.message] and screen.prompt.text == "c"
        await pilot.press("d")
        await pilot.pause()
        assert "too many" not in str(screen.prompt.border_title)
        await pilot.press("enter")
        await until_written(pilot, screen)
        assert "cd" in screen.document.text[FULL:] and screen.controls and screen.controls.slide


async def test_a_replacement_that_is_longer_than_the_context_is_asked_for_again() -> None:
    app = app_with(FakeBackend("xy" * FULL), length=2 * FULL)
    async with running(app) as pilot:
        screen = await long_text(pilot, app)
        text = screen.document.text
        await pilot.press("i", *"new", "enter")
        await pilot.pause()
        assert screen.document.text == text and SLIDE in complaints(app)[-1]


async def test_the_last_place_of_the_context_may_still_be_replaced() -> None:
    app = app_with(FakeBackend("xy" * FULL), length=2 * FULL)
    async with running(app) as pilot:
        screen = await long_text(pilot, app)
        await at(pilot, screen, FULL)
        await pilot.press("r")
        await pilot.pause()
        assert complaints(app) == [CONTEXT_FULL.message]
        await at(pilot, screen, FULL - 1)
        await pilot.press("2")
        await until_written(pilot, screen)
        assert screen.document.branch_count == 2


async def test_enter_goes_on_in_a_full_context_as_the_screen_says() -> None:
    backend = FakeBackend("h" * (FULL - 2))
    app = app_with(backend, length=FULL)
    async with running(app, (60, 20)) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, FULL)
        await pilot.press("ctrl+g")  # after the last token that the context has room for
        await pilot.pause()
        assert complaints(app) == [screen.said] == [CONTEXT_FULL.message]
        asked = len(backend.requests)
        await pilot.press("enter")
        await until_written(pilot, screen)
        assert len(backend.requests) == asked + 1 and backend.requests[-1].slide
        assert screen.controls and screen.controls.slide
        assert len(screen.document.path) > FULL and screen.said != CONTEXT_FULL.message


@pytest.mark.parametrize("key", ["r", "ctrl+g"])
@pytest.mark.parametrize("error", [BackendError("no"), EngineDiedError("gone")], ids=repr)
async def test_a_run_that_fails_at_once_leaves_the_text_and_the_cursor(
    key: str, error: BackendError
) -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 3)
        backend.error = error
        await pilot.press(key)
        await until_written(pilot, screen)
        assert screen.document.text == "abhello" and screen.view.index == 3
        assert str(error).capitalize() in complaints(app)[-1]


class StoppedAtOnce(FakeBackend):
    """Is stopped before its first token, from the second run on."""

    async def complete(self, request: Completion) -> AsyncIterator[Event]:
        if self.requests:
            yield Done("cancelled", 0, 0.1)
            return
        async for event in super().complete(request):
            yield event


@pytest.mark.parametrize("key", ["r", "ctrl+g"])
async def test_a_run_that_is_stopped_before_its_first_token_leaves_the_text(key: str) -> None:
    app = app_with(StoppedAtOnce("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 3)
        await pilot.press(key)
        await until_written(pilot, screen)
        assert screen.document.text == "abhello" and screen.view.index == 3


async def test_a_run_that_fails_after_a_replacement_leaves_the_old_text_as_a_branch() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 3)
        backend.go_on.clear()
        await pilot.press("2")
        while len(screen.document.path) != 4 or screen.document.path[3].step.token_id != 1:
            await pilot.pause()
        await pilot.press("escape")
        await until_written(pilot, screen)
        await at(pilot, screen, 3)
        await pilot.press("left_square_bracket")
        assert screen.document.text == "abhello"
