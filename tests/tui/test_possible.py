"""What is possible now: one table for keys, footer, palette and mouse."""

from __future__ import annotations

import pytest
from textual import actions

from tests.tui.fake import FakeBackend, app_with, main_screen, running, token
from tests.tui.test_app import complaints, until_written, write
from tests.tui.test_branching import at
from tui import possible
from tui.document import Document
from tui.keys import KEYS
from tui.possible import NEEDS, Situation, refusal
from tui.screens.main import MainScreen
from tui.widgets.hints import Hints
from tui.widgets.prompt import Prompt
from tui.widgets.token_view import TokenView


def offered(screen: MainScreen) -> str:
    """What the footer says."""
    return str(screen.query_one(Hints).render())


def test_every_action_of_the_table_has_a_key() -> None:
    names = {actions.parse(key.action)[1] for key in KEYS}
    assert NEEDS.keys() - names == {"write"}  # which others are made of


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.id)
def test_every_reason_is_a_sentence_in_every_situation(key: object) -> None:
    _, name, parameters = actions.parse(key.action)  # type: ignore[attr-defined]
    document = Document()
    document.append([token(i, c) for i, c in enumerate("ab")], is_prompt=True)
    situations = [
        Situation(),
        Situation(document, 0),
        Situation(document, 1, is_busy=True),
        Situation(document, 1, has_settings=False, has_typed=True, is_in_browser=True),
    ]
    for now in situations:
        found = refusal(name, parameters, now)
        assert found is None or len(found.reason) > 10


async def test_the_footer_offers_only_what_is_possible() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app, size=(220, 32)) as pilot:
        screen = main_screen(app)

        async def settled() -> str:
            await pilot.pause(0.1)
            return offered(screen)

        empty = await settled()
        assert "send" in empty and "new text" in empty
        assert "stop" not in empty and "continue" not in empty
        backend.go_on.clear()
        await pilot.press("a", "enter")
        busy = await settled()
        assert "Esc stop" in busy and "send" not in busy and "new text" not in busy
        backend.go_on.set()
        await write(pilot, app, "b")
        done = await settled()
        assert "continue" in done and "stop" not in done
        await at(pilot, screen, 1)
        inside = await settled()
        for hint in ("1-9 take", "I replace", "E layers", "C colours", "Space all keys"):
            assert hint.lower() in inside.lower()


async def test_a_click_on_a_hint_acts_like_its_key() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app, size=(220, 32)) as pilot:
        screen = await write(pilot, app, "ab")
        await pilot.press("ctrl+n")
        await pilot.pause()
        await write(pilot, app, "ab")
        hints = screen.query_one(Hints)
        column = str(hints.render()).index("new text")
        await pilot.click(hints, offset=(column, 0))
        await pilot.pause()
        assert not screen.document.path


async def test_every_key_of_the_text_says_why_it_does_nothing_without_one() -> None:
    app = app_with(FakeBackend())
    async with running(app) as pilot:
        screen = main_screen(app)
        screen.query_one(TokenView).focus()
        await pilot.pause()
        for key in ("left", "shift+right", "delete", "f4", "f8"):
            app.clear_notifications()
            await pilot.press(key)
            assert complaints(app) == [possible.NO_TEXT.reason], key
        for action in ("ban", "boost(1.0)", "copy", "search", "attribution", "layers", "take(5)"):
            app.clear_notifications()
            await app.run_action(f"screen.{action}")
            await pilot.pause()
            assert complaints(app) == [possible.NO_TEXT.reason], action


async def test_what_is_refused_leaves_the_prompt_as_it_is() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        backend.go_on.clear()
        await pilot.press("a", "enter", "b", "enter")
        screen = main_screen(app)
        assert screen.query_one(Prompt).text == "b"
        assert complaints(app) == [possible.BUSY.reason]
        backend.go_on.set()
        await until_written(pilot, screen)
        await pilot.pause()
        assert possible.BUSY.reason not in complaints(app), "it is no longer at work"
