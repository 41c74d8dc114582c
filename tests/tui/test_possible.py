"""What is possible now: one table for keys, footer, palette and mouse."""

from __future__ import annotations

import pytest
from textual import actions
from textual.widgets import Footer

from tests.tui.fake import FakeBackend, app_with, main_screen, running, token
from tests.tui.test_app import complaints, write
from tests.tui.test_branching import at
from tui import possible
from tui.document import Document
from tui.keys import KEYS
from tui.possible import NEEDS, Situation, refusal
from tui.screens.main import MainScreen
from tui.widgets.prompt import Prompt
from tui.widgets.token_view import TokenView


def grey(screen: MainScreen) -> set[str]:
    """Actions that the footer shows and that cannot be done."""
    keys = screen.query_one(Footer).query("FooterKey")
    return {key.description for key in keys if key.has_class("-disabled")}  # type: ignore[attr-defined]


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


async def test_the_footer_and_the_palette_follow_the_table() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app, size=(220, 32)) as pilot:
        screen = main_screen(app)

        async def settled() -> set[str]:
            await pilot.pause(0.1)
            return grey(screen)

        empty = await settled()
        assert {"send", "continue", "next branch"} <= empty
        assert not {"stop", "models", "new text", "quit"} & empty
        helps = {c.title: c.help for c in app.get_system_commands(screen)}
        assert helps["Next branch"] == f"Not now. {possible.NO_TEXT.reason}"
        assert helps["Models"] == "key ctrl+o"
        await pilot.press("a")
        assert "send" not in await settled()
        backend.go_on.clear()
        await pilot.press("enter")
        assert {"send", "continue", "models", "new text", "texts"} <= await settled()
        backend.go_on.set()
        await write(pilot, app, "b")
        done = await settled()
        assert "next branch" in done and "continue" not in done
        await at(pilot, screen, 1)
        backend.reply = "?"
        await pilot.press("2")
        await pilot.pause()
        assert "next branch" not in await settled()


async def test_a_click_on_a_grey_key_says_why() -> None:
    app = app_with(FakeBackend())
    async with running(app, size=(220, 32)) as pilot:
        await pilot.pause(0.1)
        keys = app.screen.query_one(Footer).query("FooterKey")
        (key,) = [each for each in keys if each.description == "next branch"]  # type: ignore[attr-defined]
        await pilot.click(key)
        await pilot.pause()
        assert complaints(app) == [possible.NO_TEXT.reason]


async def test_every_key_of_the_text_says_why_it_does_nothing_without_one() -> None:
    app = app_with(FakeBackend())
    async with running(app) as pilot:
        screen = main_screen(app)
        screen.query_one(TokenView).focus()
        await pilot.pause()
        for key in ("x", "plus", "y", "slash", "n", "u", "E", "e", "5", "left", "f4", "f8"):
            before = len(complaints(app))
            await pilot.press(key)
            assert complaints(app)[before:] == [possible.NO_TEXT.reason], key


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
