"""A text that is opened again is as its reader left it: settings, branch and cursor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.widgets import Checkbox, Input

from gpt.errors import UserError
from tests.marks import slow_but
from tests.tui.fake import FakeBackend, app_with, main_screen, running
from tests.tui.test_app import complaints, write
from tests.tui.test_branching import at
from tests.tui.test_keeping import until_saved
from tui import store
from tui.app import GPTApp
from tui.dials import Setup
from tui.document import Document
from tui.screens.main import MainScreen

LEFT = {
    "temperature": "1.25",
    "top_k": "7",
    "length": "5",
    "branches": "2",
    "seed": "11",
    "banned": "·the #12",
    "boosted": "king:2",
    "dry_multiplier": "0.5",
}


def texts(screen: MainScreen) -> dict[str, str]:
    assert screen.controls
    return {name: text for name, text in screen.controls.setup().texts.items() if name in LEFT}


async def leave_one() -> Path:
    """Write a text with settings of its own, go to its fourth token, and quit."""
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = main_screen(app)
        assert screen.controls
        await screen.controls.open()
        for name, text in LEFT.items():
            screen.query_one(f"#{name}", Input).value = text
        screen.controls.order = ("temperature",)
        screen.query_one("#slide", Checkbox).value = True
        await pilot.pause()
        await write(pilot, app, "ab")
        await at(pilot, screen, 3)
    return store.entries()[0].path


@pytest.mark.parametrize("by", ["--last", "f3"])
async def test_a_text_that_is_opened_again_is_as_it_was_left(by: str) -> None:
    path = await leave_one()
    app = app_with(FakeBackend("hello"), text=path if by == "--last" else None)
    async with running(app) as pilot:
        screen = main_screen(app)
        if by == "f3":
            await pilot.press("f3", "enter")
        while not screen.document.path:
            await pilot.pause()
        await pilot.pause()
        assert texts(screen) == LEFT
        assert screen.controls
        assert screen.controls.slide and not screen.controls.chat
        assert screen.view.index == 3
        assert not complaints(app)
        await pilot.press("ctrl+g")
        request = screen.session.backend.requests[-1]  # type: ignore[attr-defined]
        sampling = request.sampling
        assert (request.max_new_tokens, request.branches, request.slide) == (5, 2, True)
        assert (sampling.temperature, sampling.seed) == (1.25, 11)
        assert (12,) in sampling.banned and tuple(map(ord, " the")) in sampling.banned


async def test_options_of_the_command_line_come_before_a_texts_own_settings() -> None:
    path = await leave_one()
    app = app_with(FakeBackend("hello"), text=path, seed=3, length=9, chat=True)
    async with running(app):
        screen = main_screen(app)
        assert texts(screen) == LEFT | {"seed": "3", "length": "9"}
        assert screen.controls and screen.controls.chat


async def test_preferred_settings_give_way_to_those_of_a_text() -> None:
    path = await leave_one()
    app = app_with(FakeBackend("hello"), text=path, dials={"temperature": 0.3})
    async with running(app):
        assert texts(main_screen(app)) == LEFT


async def test_another_text_takes_its_settings_with_it() -> None:
    await leave_one()
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = main_screen(app)
        screen.query_one("#temperature", Input).value = "0.5"
        await write(pilot, app, "xyz")
        await until_saved(pilot, 2)
        await at(pilot, screen, 1)
        await pilot.press("f3", *"abhe", "enter")
        await pilot.pause()
        assert texts(screen) == LEFT
        while len(screen.session._autosave.tasks):
            await pilot.pause()
        await pilot.press("f3", *"xyz", "enter")
        await pilot.pause()
        assert screen.view.index == 1
        assert texts(screen)["temperature"] == "0.5" and texts(screen)["banned"] == ""


async def test_a_file_without_settings_leaves_them_and_opens_at_its_end() -> None:
    path = await leave_one()
    head, *lines = path.read_text().splitlines()
    old = json.loads(head)
    del old["setup"]
    path.write_text("\n".join([json.dumps(old), *lines]) + "\n")
    app = app_with(FakeBackend("hello"), text=path, length=5)
    async with running(app):
        screen = main_screen(app)
        assert texts(screen)["temperature"] == "0.8" and screen.view.selected is None


def test_a_setup_is_what_it_was_after_a_file() -> None:
    setup = Setup({"temperature": "0.5", "banned": "·x"}, ("top_p", "top_k"), True, False, 4)
    again = Setup.from_untrusted(json.loads(json.dumps(setup.to_dict())))
    assert again and again.texts == setup.texts and again.cursor == 4 and again.slide
    assert again.order.index("top_p") < again.order.index("top_k")
    newer = again.to_dict() | {"texts": {"new": 1}, "order": list(again.order)}
    assert Setup.from_untrusted(newer) == again._replace(texts={})
    assert Document().setup is None and Setup.from_untrusted(None) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"texts": []},
        {"texts": {"seed": 3}},
        {"texts": {"banned": "x" * 10**6}},
        {"order": ["nothing"]},
        {"slide": 1},
        {"cursor": -1},
        {"cursor": "end"},
    ],
    ids=str,
)
async def test_a_file_with_broken_settings_is_set_aside(wrong: dict[str, object]) -> None:
    path = await leave_one()
    head, *lines = path.read_text().splitlines()
    whole = json.loads(head)
    whole["setup"] |= wrong
    path.write_text("\n".join([json.dumps(whole), *lines]) + "\n")
    with pytest.raises(UserError, match="broken"):
        store.load(path)


@pytest.mark.parametrize(
    "size", slow_but([(60, 20), (80, 24), (120, 40), (200, 60)], (60, 20)), ids=str
)
async def test_the_welcome_says_that_there_is_a_text_to_open(size: tuple[int, int]) -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, size) as pilot:
        assert "F3: your last text" not in drawn(app)
        await write(pilot, app, "ab")
        await until_saved(pilot, 1)
        await pilot.press("ctrl+n")
        await pilot.pause()
        assert "Or type your own. F3: your last text." in drawn(app)


def drawn(app: GPTApp) -> str:
    return "\n".join(row.text for row in app.screen._compositor.render_strips())


async def test_the_last_seed_of_a_reopened_text_is_the_one_that_wrote_it() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        sampling = screen.document.path[-1].sampling
        assert sampling
        said = f"random; last {sampling.seed}"
        assert screen.query_one("#seed", Input).placeholder == said
    path = store.entries()[0].path
    app = app_with(FakeBackend("hello"), text=path)
    async with running(app) as pilot:
        screen = main_screen(app)
        await pilot.press("tab", "left", "home", "end")
        assert screen.query_one("#seed", Input).placeholder == said
        await write(pilot, app, "")


async def test_before_a_text_is_drawn_there_is_no_last_seed() -> None:
    app = app_with(FakeBackend("hello"), score="hello")
    async with running(app) as pilot:
        screen = main_screen(app)
        while screen.is_writing or not screen.document.path:
            await pilot.pause()
        await pilot.press("tab", "right", "f2", "f2", "up")
        assert screen.query_one("#seed", Input).placeholder == "random"
