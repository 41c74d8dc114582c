"""A text saves itself, is found again and leaves as a file, by the keys that a person has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import OptionList

from gpt.checkpoint import save
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model
from tests.tui.fake import FakeBackend, app_with, main_screen, running
from tests.tui.test_app import complaints, until_written, write
from tests.tui.test_branching import at
from tui import store
from tui.saved_text import Entry
from tui.screens.texts import TextPicker
from tui.widgets.status import Status
from tui.widgets.token_view import TokenView
from tui.widgets.welcome import Welcome


async def until_saved(pilot: Pilot[None], n: int) -> list[Entry]:
    for _ in range(500):
        if len(found := store.entries()) >= n:
            return found
        await pilot.pause(0.01)
    raise AssertionError("nothing was saved")


async def test_a_text_saves_itself_and_is_found_again() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "abc")
        await until_saved(pilot, 1)
        await at(pilot, screen, 4)
        await pilot.press("m", "ctrl+n")
        await write(pilot, app, "xyz")
        await until_saved(pilot, 2)
        await pilot.press("f3")
        assert isinstance(app.screen, TextPicker)
        await pilot.pause()
        options = app.screen.query_one(OptionList)
        assert options.option_count == 2
        await pilot.press(*"ABC")
        assert options.option_count == 1
        await pilot.press("enter")
        await pilot.pause()
        assert main_screen(app).document.text == "abchello"
        backend.reply = "!"
        await write(pilot, app, "d")
        assert main_screen(app).document.text == "abchellod!"
    titles = {entry.title for entry in store.entries()}
    assert titles == {"abchellod!", "xyzhello"}


async def test_a_text_is_deleted_in_the_list_and_can_be_brought_back() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        for text in ("abc", "xyz"):
            await pilot.press("ctrl+n")
            await write(pilot, app, text)
        await until_saved(pilot, 2)

        def titles() -> set[str]:
            return {entry.title for entry in store.entries()}

        await pilot.press("f3")
        await pilot.pause()
        options = app.screen.query_one(OptionList)
        await pilot.press(*"xyz", "delete")
        assert "on the screen" in complaints(app)[-1] and options.option_count == 1
        # Other letters in the filter; the last key is for the row that they leave.
        await pilot.press("home", "delete", "delete", "delete", *"abc", "delete")
        assert titles() == {"xyzhello"}
        await pilot.pause()
        assert str(options.get_option_at_index(0).prompt) == "Nothing contains these words"
        await pilot.press("enter", "backspace", "backspace", "backspace")
        await pilot.pause()
        assert options.option_count == 1 and app.screen.is_modal
        await pilot.press("ctrl+z")
        assert titles() == {"abchello", "xyzhello"} and options.option_count == 2
        await pilot.press("ctrl+z")
        assert complaints(app)[-1] == "Nothing was deleted in this window."
        await pilot.press(*"abc", "delete", "escape")
        await pilot.pause()
    assert titles() == {"xyzhello"}
    assert [path.suffix for path in store.home().iterdir()] == [".jsonl"]


async def test_the_welcome_offers_no_text_after_the_last_one_is_deleted() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        await write(pilot, app, "abc")
        await until_saved(pilot, 1)
        await pilot.press("ctrl+n")
        await pilot.pause()
        welcome = main_screen(app).query_one(Welcome)
        assert welcome.has_texts
        await pilot.press("f3", "delete", "escape")
        await pilot.pause()
        assert not store.entries() and not welcome.has_texts


async def test_a_text_that_another_program_has_open_is_not_deleted() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        await write(pilot, app, "abc")
    (entry,) = store.entries()
    place = store.Place(entry.path)
    assert place.claim()
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        await pilot.press("f3", "delete")
        await pilot.pause()
        assert complaints(app)[-1] == "another program has this text open".capitalize()
        assert len(store.entries()) == 1
    place.release()


async def test_bookmarks_and_branches_are_there_after_leaving() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "abc")
        await at(pilot, screen, 4)
        backend.reply = "?"
        await pilot.press("m", "ctrl+g")
        await until_written(pilot, screen)
    (entry,) = store.entries()
    app = app_with(FakeBackend(), text=entry.path)
    async with running(app) as pilot:
        screen = main_screen(app)
        assert screen.document.text == "abche?"
        assert screen.document.branches(5) == 2
        assert screen.document.path[4].is_marked
        assert screen.query_one(TokenView).index == 5


async def test_a_text_that_another_program_has_open_becomes_another_text() -> None:
    first, second = app_with(FakeBackend("hello")), None
    async with running(first) as pilot:
        await write(pilot, first, "abc")
        (entry,) = await until_saved(pilot, 1)
        second = app_with(FakeBackend("?"), text=entry.path)
        async with running(second) as other:
            assert "Another program has this text open" in complaints(second)[-1]
            await write(other, second, "d")
            await until_saved(other, 2)
        assert store.load(entry.path)[0].text == "abchello"
    assert sorted(e.title for e in store.entries()) == ["abchello", "abchellod?"]


async def test_a_broken_text_is_named_and_the_one_on_the_screen_stays() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        await write(pilot, app, "abc")
        (entry,) = await until_saved(pilot, 1)
        other = entry.path.with_name("other.jsonl")
        other.write_text(entry.path.read_text()[:-40])
        main_screen(app).open_text(other)
        await pilot.pause()
        assert "other.broken" in complaints(app)[-1]
        assert main_screen(app).document.text == "abchello"
    assert other.with_suffix(".broken").exists()


async def test_a_text_goes_on_with_the_model_that_wrote_it(home: Path) -> None:
    save(home / "models" / "tiny", random_model(), CharTokenizer(CHARACTERS))
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        await write(pilot, app, "abc")
        (entry,) = await until_saved(pilot, 1)
    lines = entry.path.read_text().splitlines()
    for model, shown in (("tiny", "abchello"), ("gone", "abchello")):
        head = json.dumps(json.loads(lines[0]) | {"model": model})
        entry.path.write_text("\n".join([head, *lines[1:]]))
        app = app_with(FakeBackend(), text=entry.path)
        async with running(app) as pilot:
            screen = main_screen(app)
            await until_written(pilot, screen)
            assert screen.document.text == shown
            if model == "tiny":
                assert screen.session.model == "tiny"
                assert "tiny" in str(screen.query_one(Status).render())
                assert [node.is_prompt for node in screen.document.path].count(True) == 3
            else:
                assert "fake reads the text instead" in complaints(app)[-1]
                assert screen.session.place.path != entry.path


@pytest.mark.parametrize("copies", [True, False])
async def test_what_the_mouse_selects_is_copied_if_the_person_wants_that(copies: bool) -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        app.prefer(copy_on_select=copies)
        screen = await write(pilot, app, "abc")
        await pilot.mouse_down(TokenView, offset=(4, 1))
        await pilot.hover(TokenView, offset=(2, 1))
        assert app.clipboard == ""  # the mouse still drags
        await pilot.mouse_up(TokenView, offset=(2, 1))
        await pilot.pause()
        selected = "".join(screen.document.path[i].step.text for i in screen.view.selection)
        assert selected and app.clipboard == selected * copies


async def test_what_keys_select_is_copied_by_y_alone() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "abc")
        await at(pilot, screen, 5)
        await pilot.press("shift+left", "shift+left")
        assert app.clipboard == "" and not complaints(app)
        await pilot.press("y")
        assert app.clipboard == "hel" and complaints(app)[-1] == "Copied 3 tokens"
