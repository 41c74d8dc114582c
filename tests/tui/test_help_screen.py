"""The help: keys and glossary with one search, on every screen."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.binding import Binding
from textual.pilot import Pilot
from textual.widgets import Input

from tests.marks import slow_but
from tests.terminal import SIZES, Terminal, needs_pty, terminals
from tests.tui.fake import FakeBackend, app_with, main_screen, running
from tests.tui.test_app import complaints, write
from tests.tui.test_inside import inside
from tui.app import GPTApp
from tui.commands import key_commands
from tui.glossary import TERMS
from tui.inside.about import ABOUT
from tui.inside.about import KEYS as INSIDE_KEYS
from tui.inside.knockout import KnockoutView
from tui.inside.tabs import digit
from tui.inside.view import InsideView
from tui.inside.views import VIEWS
from tui.keys import GROUPS, KEYS
from tui.possible import NO_TEXT
from tui.screens.help import HERE, SETTINGS, WORDS, HelpScreen
from tui.screens.inside import InsideScreen
from tui.screens.main import MainScreen
from tui.widgets.topics import Row, Topic

ALL_SIZES = [*SIZES, (200, 60)]


async def opened(pilot: Pilot[None], app: GPTApp, term: str = "") -> HelpScreen:
    """The help over the screen that is shown."""
    app.action_help(term)
    await pilot.pause()
    assert isinstance(app.screen, HelpScreen)
    return app.screen


def shown(screen: HelpScreen) -> list[Topic]:
    """The rows, without headings."""
    return [row.topic for row in screen.topics.options if isinstance(row, Row)]


def highlighted(screen: HelpScreen) -> Topic:
    row = screen.topics.highlighted_option
    assert isinstance(row, Row)
    return row.topic


async def test_a_key_acts_on_the_rows_that_the_last_letter_leaves() -> None:
    """Also before the message of that letter has come."""
    app = app_with(FakeBackend("hello"))
    async with running(app, (120, 40)) as pilot:
        screen = await opened(pilot, app)
        with screen.prevent(Input.Changed):
            screen.field.value = "entropy"
        screen.action_move("cursor_down")
        second = shown(screen)[1]
        assert (shown(screen)[0].name, highlighted(screen)) == ("entropy", second)
        screen.post_message(Input.Changed(screen.field, "entropy"))
        await pilot.pause()
        assert highlighted(screen) == second


async def test_every_key_and_every_word_is_there_by_group() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (120, 40)) as pilot:
        screen = await opened(pilot, app)
        topics = shown(screen)
        sections = list(dict.fromkeys(topic.section for topic in topics))
        assert sections == [*GROUPS, SETTINGS, WORDS]
        ids = {c.key.id for topic in topics for c in topic.commands if c.key}
        assert ids == {c.key.id for c in key_commands(main_screen_below(app)) if c.key}
        assert {key.id for key in KEYS} - ids == set()
        assert [topic.name for topic in topics if topic.section == WORDS] == [t.name for t in TERMS]


def main_screen_below(app: GPTApp) -> MainScreen:
    screen = app.screen_stack[0]
    assert isinstance(screen, MainScreen)
    return screen


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("entropy", "entropy"),
        ("beam", "beam search"),
        ("nucleus", "top-p"),
        ("Ctrl+B", "Branch"),
        ("unsure", "Uncertain token"),
        ("perplexty", "perplexity"),
        ("branches", "Set branches"),
        ("several texts", "Set branches"),
        ("slide", "Tick: Slide context when full"),
        ("context full", "Tick: Slide context when full"),
        ("ban", "Set banned"),
        ("undo", "Branch"),
        ("go back", "Branch"),
        ("mute", "knock-out"),
        ("nats", "nat"),
    ],
)
async def test_typing_finds_keys_and_words_alike(typed: str, first: str) -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await opened(pilot, app)
        await pilot.press(*typed)
        await pilot.pause()
        found = shown(screen)
        assert first in [topic.name for topic in found[:4]]
        assert len(found) < 30
        screen.field.value = "qqqq"
        await pilot.pause()
        assert shown(screen) == []
        assert screen.topics.option_count == 1  # a sentence says that nothing was found
        await pilot.press("enter", "up", "down", "pagedown", "escape")
        assert isinstance(app.screen, MainScreen)


async def test_a_setting_says_where_it_is_and_enter_goes_there() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:  # the panel of the settings is hidden
        screen = await opened(pilot, app)
        await pilot.press(*"context full")
        await pilot.pause()
        topic = highlighted(screen)
        assert topic.name == "Tick: Slide context when full"
        assert topic.sentence.startswith("In the Sampling panel: ")
        await pilot.press("enter")
        for _ in range(5):
            await pilot.pause()
        assert app.focused and app.focused.id == "slide" and app.focused.region.area


async def test_it_opens_at_a_term_with_its_meaning_highlighted() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await opened(pilot, app, TERMS[0].name)
        for term in TERMS:
            screen.look_for(term.name)
            await pilot.pause()
            assert highlighted(screen).name == term.name
        await pilot.press("escape")
        screen = await opened(pilot, app, "no such [/word]")
        await pilot.press("backspace")  # the term is selected, so one key empties the field
        assert screen.field.value == ""
        await opened_again(pilot, app, screen)


async def opened_again(pilot: Pilot[None], app: GPTApp, screen: HelpScreen) -> None:
    """A link inside the help looks for its term in the same window."""
    app.action_help("nat")
    await pilot.pause()
    assert app.screen is screen and screen.field.value == "nat"


async def test_enter_runs_what_is_possible_and_says_why_not() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await opened(pilot, app)
        await pilot.press(*"delete from here")
        await pilot.pause()
        rows = [" ".join(str(row.prompt).split()) for row in screen.topics.options]
        assert any(NO_TEXT.reason in row for row in rows)
        await pilot.press("enter")
        await pilot.pause()
        assert app.screen is screen
        assert complaints(app) == [NO_TEXT.reason]
        await pilot.press("escape")
        main = await write(pilot, app, "ab")
        main.view.action_select(2)
        await opened(pilot, app)
        await pilot.press(*"delete from here", "enter")
        await pilot.pause()
        await pilot.pause()
        assert main_screen(app).document.text == "ab"


async def test_a_window_shows_its_own_keys_and_the_others_wait() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        await write(pilot, app, "ab")
        await pilot.press("f5")
        await pilot.pause()
        window = app.screen
        screen = await opened(pilot, app)
        here = [topic for topic in shown(screen) if topic.section == HERE]
        assert [(topic.name, topic.keys) for topic in here] == [("Back", "Esc F5")]
        models = next(topic for topic in shown(screen) if topic.name == "Models")
        assert models.command and models.command.refused()
        await pilot.press(*"back", "enter")
        await pilot.pause()
        await pilot.pause()
        assert window not in app.screen_stack and app.screen is main_screen(app)


@pytest.mark.parametrize("size", slow_but([*ALL_SIZES, (20, 6), (1, 1)], (60, 20)))
async def test_it_works_at_every_size_and_follows_it(size: tuple[int, int]) -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, size) as pilot:
        screen = await opened(pilot, app)
        await pilot.press("down", "pagedown", "ctrl+end", "ctrl+home", "down")
        before = highlighted(screen).name if size[0] > 20 else None
        await pilot.resize_terminal(100, 30)
        await pilot.pause()
        if before:
            assert highlighted(screen).name == before
        assert screen.topics.virtual_size.width <= 100
        widths = [
            len(line) for row in screen.topics.options for line in str(row.prompt).split("\n")
        ]
        assert max(widths) <= screen.topics.scrollable_content_region.width
        await pilot.press("escape")
        assert isinstance(app.screen, MainScreen)


async def test_a_click_chooses_and_a_click_beside_closes() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (150, 40)) as pilot:
        screen = await opened(pilot, app, "entropy")
        row = screen.topics.highlighted
        assert row is not None
        await pilot.click(screen.topics, offset=(2, screen.topics._index_to_line[row]))
        await pilot.pause()
        assert app.screen is screen
        await pilot.click(offset=(0, 0))
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)


@pytest.fixture
def start(tiny_directory: Path) -> Iterator[Callable[..., Terminal]]:
    yield from terminals("tiny")


@pytest.mark.slow
@needs_pty
@pytest.mark.parametrize("size", [(120, 40), (60, 20)])
def test_escape_and_f1_close_it_in_a_terminal(
    start: Callable[..., Terminal], size: tuple[int, int]
) -> None:
    terminal = start("--prompt", "abc", "-n", "3", size=size)
    terminal.shows("Done")
    for key in ("escape", "f1"):
        terminal.press("f1")
        terminal.shows("Type to find a key")
        terminal.press("surprisal")
        terminal.shows(r"Minus the\s+logarithm")
        terminal.press(key)
        terminal.hides("Minus the")
    terminal.press("f6")  # a window with a window above it
    terminal.shows("Preferences")
    for key in ("escape", "f1"):
        terminal.press("f1")
        terminal.shows("Type to find a key")
        terminal.press(key)
        terminal.hides("Type to find a key")
        assert re.search("Preferences", terminal.text)
    terminal.press("escape")
    terminal.hides("Preferences")
    assert terminal.quit() == 0


@pytest.mark.parametrize("view", slow_but(VIEWS, VIEWS[0], VIEWS[-1]), ids=str)
async def test_every_view_of_the_inside_says_what_is_shown_and_what_its_keys_do(
    view: type[InsideView],
) -> None:
    async with inside(digit(VIEWS.index(view))) as (app, screen, pilot, _):
        help = await opened(pilot, app)
        here = [topic for topic in shown(help) if topic.section == HERE]
        assert here[0].name == view.NAME and here[0].sentence == ABOUT[view.NAME]
        assert len({topic.sentence for topic in here}) == len(here)
        assert all(topic.sentence.endswith(".") for topic in here)
        assert {each.NAME for each in VIEWS} <= {topic.name for topic in here}
        await pilot.press("escape")
        assert app.screen is screen
        await pilot.press("space")
        await pilot.pause()
        is_switch = view is KnockoutView
        assert isinstance(app.screen, HelpScreen) != is_switch
        assert bool(screen.place.changes) == is_switch


def test_no_sentence_is_about_a_key_that_does_not_exist() -> None:
    classes = [InsideScreen, *(base for view in VIEWS for base in view.__mro__)]
    ids = {
        binding.id
        for each in classes
        for binding in vars(each).get("BINDINGS", ())
        if isinstance(binding, Binding)
    }
    views = {f"inside_screen.view_{n + 1}" for n in range(len(VIEWS))}
    assert (
        set(INSIDE_KEYS)
        == {each for each in ids if each and each.startswith(("look", "inside"))} - views
    )
    assert set(ABOUT) == {view.NAME for view in VIEWS}
