"""The palette: every command by name, sentence or synonym; the impossible ones last."""

from __future__ import annotations

import pytest
from rich.style import Style
from textual import events
from textual.command import CommandList, DiscoveryHit, Hit
from textual.content import Content
from textual.widgets import Input, OptionList

from tests.tui.fake import FakeBackend, app_with, main_screen, running, token
from tests.tui.test_app import complaints, write
from tui.app import GPTApp
from tui.commands import Commands, by_group, key_commands
from tui.possible import NO_TEXT
from tui.preferences import Preferences
from tui.screens.dialog import Palette
from tui.screens.help import HelpScreen
from tui.screens.main import MainScreen


async def listed(app: GPTApp) -> list[DiscoveryHit | Hit]:
    """What the palette lists before anything is typed."""
    provider = Commands(main_screen(app))
    await provider.startup()
    return [hit async for hit in provider.discover()]


async def found(app: GPTApp, query: str) -> list[DiscoveryHit | Hit]:
    """What the palette finds, the best first."""
    provider = Commands(main_screen(app))
    await provider.startup()
    hits = [hit async for hit in provider.search(query)]
    return sorted(hits, key=lambda hit: -hit.score)


SYNONYMS = {
    "attention": "Colour by attention",
    "temperature": "Set temperature",
    "temprature": "Set temperature",
    "entropy": "Next uncertain token",
    "chat": "Tick: Chat",
    "dark": "Change theme",
    "logit lens": "Layers: each layer's guess",
    "beam": "Likely continuations",
    "undo": "Undo the latest step",
    "save": "Export",
    "what if": "What if: the same random seed",
    "counterfactual": "What if: the same random seed",
    "nucleus": "How each setting changes the probabilities",
    "clipboard": "Copy the text",
    "reroll": "Draw this token again",
    "tokenization": "Show tokens as boxes",
    "projector": "Presenter mode",
    "crash": "Restart the engine",
    "shortcuts": "Help",
    "colour-blind": "Preferences",
    "perplexity": "Numbers of each line",
    "saliency": "Which earlier tokens mattered",
    "exit": "Quit",
    "reset": "Reset the sampling settings",
    "defaults": "Reset the sampling settings",
    "who wrote": "What “author” means",
    "forbid": "Ban this token",
    "favourite": "Bookmark",
    "gpt2": "Models",
    "ctrl+t": "Tree of branches",
    "E": "Which earlier tokens mattered",
    "e": "Layers: each layer's guess",
    "gruvbox": "Theme: gruvbox",
    "what is entropy": "What “entropy” means",
    "branches": "Set branches",
    "several texts": "Set branches",
    "slide": "Tick: Slide context when full",
    "context full": "Tick: Slide context when full",
    "ban a word": "Set banned",
    "go back": "Next branch",
    "mute": "Look inside",
    "nats": "What “nat” means",
}


async def test_each_synonym_finds_its_command_among_the_first() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        await write(pilot, app, "ab")
        missed = {}
        for query, name in SYNONYMS.items():
            first = [str(hit.text) for hit in (await found(app, query))[:4]]
            if not any(each.startswith(name) for each in first):
                missed[query] = first
        assert missed == {}


async def test_reset_goes_back_to_the_settings_of_the_start() -> None:
    app = app_with(FakeBackend("hello"))
    app.preferences = Preferences(settings={"top_k": 5, "seed": 3})
    async with running(app) as pilot:
        controls = main_screen(app).controls
        assert controls
        controls.use_preset("wild")
        controls.toggle_ban(token(0, "a"))
        controls.set("length", 7)
        hits = await found(app, "reset")
        assert str(hits[0].text) == "Reset the sampling settings", "before New text"
        run = hits[0].command()
        assert run is not None
        await run
        await pilot.pause()
        assert complaints(app) == [
            "Sampling settings as at the start; seed, length and branches stay"
        ]
        now = controls.sampling()
        assert (now.temperature, now.top_p, now.top_k, now.banned) == (0.8, 0.95, 5, ())
        assert controls.length == 7


async def test_a_key_is_shown_as_a_person_writes_it_with_a_sentence() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        await write(pilot, app, "ab")
        for query, keys in (("export", "F4"), ("continue from here", "Ctrl+G"), ("ban", "x")):
            (hit, *_) = await found(app, query)
            assert str(hit.prompt).endswith(f"  {keys}")
            assert str(hit.help).endswith(".") and not str(hit.help).startswith("Not now")


async def test_the_impossible_comes_last_with_its_reason() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app):
        for hits in (await listed(app), await found(app, "branch"), await found(app, "token")):
            refused = [str(hit.help).startswith("Not now: ") for hit in hits]
            assert True in refused and False in refused
            assert refused == sorted(refused)
        reasons = {str(hit.text): hit.help for hit in await listed(app)}
        assert reasons["Next branch"] == f"Not now: {NO_TEXT.reason}"
        assert reasons["Delete from here"] == f"Not now: {NO_TEXT.reason}"


async def test_every_command_of_the_screen_is_listed_once() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app):
        names = [str(hit.text) for hit in await listed(app)]
        commands = list(key_commands(main_screen(app)))
        assert {command.name for command in commands} - {"All commands"} <= set(names)
        assert {"Stop", "Continue from here", "New text", "Quit", "Screenshot"} <= set(names)
        grouped = [each for parts in by_group(commands).values() for part in parts for each in part]
        assert len(grouped) == len(commands)


async def test_what_is_chosen_happens() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        screen.view.action_select(2)
        for query in ("delete from here", "undo", "what is entropy"):
            await pilot.press("ctrl+p")
            await pilot.pause()
            assert isinstance(app.screen, Palette)
            app.screen.query_one(Input).value = query
            options = app.screen.query_one(CommandList)
            while not options.option_count or options.option_count > 20:
                await pilot.pause(0.02)
            await pilot.press("enter")
            while isinstance(app.screen, Palette):
                await pilot.pause()
            await pilot.pause()
            if query.startswith("delete"):
                assert screen.document.text == "ab"
            elif query == "undo":
                assert screen.document.text == "abhello"
        assert isinstance(app.screen, HelpScreen)
        assert app.screen.field.value == "entropy"
        await pilot.press("escape")
        assert isinstance(app.screen, MainScreen)


@pytest.mark.parametrize("pasted", ["chan\nge th\r\neme", "chan\x1b\x07\nge th\neme"])
async def test_no_line_of_a_paste_is_lost(pasted: str) -> None:
    app = app_with(FakeBackend())
    async with running(app) as pilot:
        await pilot.press("ctrl+p")
        await pilot.pause()
        app.post_message(events.Paste(pasted))
        await pilot.pause()
        assert app.screen.query_one(Input).value == "chan ge th eme"


async def test_f1_and_escape_close_the_help_over_the_palette() -> None:
    app = app_with(FakeBackend())
    async with running(app) as pilot:
        await pilot.press("ctrl+p")
        await pilot.pause()
        for key in ("f1", "escape"):
            await pilot.press("f1")
            await pilot.pause()
            assert isinstance(app.screen, HelpScreen)
            await pilot.press(key)
            await pilot.pause()
            assert isinstance(app.screen, Palette)
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)
        assert complaints(app) == []


async def test_a_click_where_the_terminal_is_no_longer_changes_nothing() -> None:
    app = app_with(FakeBackend())
    async with running(app, size=(60, 20)) as pilot:
        await pilot.press("ctrl+p")
        await pilot.pause()
        for kind in (events.MouseDown, events.MouseUp, events.Click):
            app.screen.post_message(kind(app.screen, 98, 17, 0, 0, 1, False, False, False))
        await pilot.pause()
        assert isinstance(app.screen, Palette)


async def test_hostile_names_stay_names() -> None:
    app = app_with(FakeBackend())
    async with running(app):
        for hit in [*await listed(app), *await found(app, "theme")]:
            assert "\x1b" not in str(hit.prompt)
            assert Content.from_markup(str(hit.help)).plain


@pytest.mark.parametrize("key", ["ctrl+p", "f1", "f3", "f9", "ctrl+o"])
async def test_a_click_on_a_row_that_is_gone_ends_nothing(key: str) -> None:
    app = app_with(FakeBackend())
    async with running(app) as pilot:
        await pilot.press(key)
        await pilot.pause()
        rows = app.screen.query_one(OptionList)
        gone = Style(meta={"option": 5000})
        rows.post_message(events.Click(rows, 1, 1, 0, 0, 1, False, False, False, style=gone))
        await pilot.pause()
        assert app.is_running


@pytest.mark.parametrize("key", ["f1", "f3"])
async def test_a_letter_that_arrives_while_a_screen_closes_changes_nothing(key: str) -> None:
    app = app_with(FakeBackend())
    async with running(app) as pilot:
        await pilot.press(key)
        await pilot.pause()
        screen, field = app.screen, app.screen.query_one(Input)
        await screen.query("*").remove()  # as Textual does it before the screen itself is gone
        screen.post_message(Input.Changed(field, "late"))
        await pilot.pause()
        assert app.screen is screen
