"""The screen that shows the inside: keys, numbers, layout, and one run of the real program."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from textual.pilot import Pilot

from gpt.capabilities import Capabilities
from gpt.checkpoint import Checkpoint
from gpt.interpret.architecture import architecture
from gpt.interpret.grid import lens_cell, lens_grid
from gpt.interpret.heads import heads, work
from gpt.interpret.logit_parts import logit_parts
from tests.marks import slow_but
from tests.terminal import SIZES, Terminal, needs_pty, terminals
from tests.tui.fake import FakeBackend, app_with, running
from tests.tui.test_app import complaints, write
from tests.tui.test_branching import at
from tests.tui.test_snapshots import picture
from tui.app import GPTApp
from tui.backend import BackendError
from tui.inside.heads import HeadsView
from tui.inside.lens import LensView
from tui.inside.model import ModelView
from tui.inside.parts import PartsView
from tui.inside.tabs import digit
from tui.inside.work import WorkView
from tui.labels import percent
from tui.screens.inside import InsideScreen
from tui.screens.main import MainScreen

ALL_SIZES = [*SIZES, (200, 60)]
VIEWS = (LensView, HeadsView, WorkView, PartsView, ModelView)
TEXT = "to bebop a lula"


@asynccontextmanager
async def inside(
    *keys: str,
    size: tuple[int, int] = (120, 40),
    backend: FakeBackend | None = None,
    at_index: int = 7,
) -> AsyncIterator[tuple[GPTApp, InsideScreen, Pilot[None], FakeBackend]]:
    """The screen at a token of a text, after these keys."""
    backend = backend or FakeBackend("hello")
    app = app_with(backend)
    async with running(app, size) as pilot:
        screen = await write(pilot, app, TEXT)
        await at(pilot, screen, at_index)
        await pilot.press("L")
        await pilot.pause()
        assert isinstance(app.screen, InsideScreen)
        await press(pilot, *keys)
        yield app, app.screen, pilot, backend


async def press(pilot: Pilot[None], *keys: str) -> None:
    """Press keys; each acts on what the answers to the one before show."""
    await settled(pilot)
    for key in keys:
        await pilot.press(key)
        await settled(pilot)


async def settled(pilot: Pilot[None]) -> None:
    """Until everything is asked and drawn."""
    screen = pilot.app.screen
    for _ in range(3):
        await pilot.pause()
    while isinstance(screen, InsideScreen) and screen.is_current and screen._missing():
        await pilot.pause(0.02)
    await pilot.pause()


def drawn(app: GPTApp) -> str:
    """What stands on the screen, a line a row, spaces joined."""
    return re.sub(" +", " ", picture(app))


async def test_digits_and_tab_switch_and_the_last_view_comes_again() -> None:
    async with inside("3", "tab", "up") as (app, screen, pilot, _):
        assert screen.tabs.chosen == 3
        await press(pilot, "shift+tab", "up", "h")
        await press(pilot, "right", "escape")
        main = app.screen
        assert isinstance(main, MainScreen) and main.view.index == 8 and main.view.has_focus
        await press(pilot, "L")
        again = app.screen
        assert isinstance(again, InsideScreen)
        assert again.tabs.chosen == 2 and (again.place.layer, again.place.head) == (2, 2)


async def test_a_slow_answer_says_what_it_does_and_escape_stops_it() -> None:
    backend = FakeBackend("hello")
    async with inside(backend=backend) as (app, screen, pilot, _):
        backend.answers_inside.clear()
        await pilot.press("2")
        while "token 1 of 9; Esc stops" not in drawn(app):
            await pilot.pause(0.02)
        await pilot.press("escape")
        await settled(pilot)
        assert app.screen is screen and "Stopped." in drawn(app)
        backend.cancelled = False
        backend.answers_inside.set()
        await press(pilot, "left")
        assert "looks at" in drawn(app)
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)


async def test_a_reason_stands_in_place_of_the_numbers_and_moving_asks_again() -> None:
    backend = FakeBackend("hello")
    async with inside(backend=backend) as (app, _, pilot, _):
        backend.error = BackendError("the engine is tired\x1b[31m")
        await press(pilot, "2")
        assert "the engine is tired␛[31m" in drawn(app)
        backend.error = None
        await press(pilot, "left")
        assert "looks at" in drawn(app)


@pytest.mark.slow
async def test_the_first_token_has_nothing_before_it() -> None:
    async with inside(at_index=1) as (app, screen, pilot, backend):
        backend.asked_inside.clear()
        await press(pilot, "left", "left")
        for n in range(len(VIEWS)):
            await press(pilot, digit(n), "up", "down")
            assert "First token" in drawn(app)
        assert screen.place.index == 0 and not backend.asked_inside


async def test_a_click_chooses_a_cell_a_head_and_a_view() -> None:
    async with inside() as (app, screen, pilot, _):
        rows = picture(app).splitlines()
        y = next(i for i, line in enumerate(rows) if line.startswith("│  2 "))
        await pilot.click(offset=(2 + 11 + 6 * 3 + 1, y))
        await settled(pilot)
        assert (screen.place.layer, screen.place.index) == (2, 4)
        await pilot.click(screen.tabs, offset=(10, 0))
        await settled(pilot)
        assert screen.tabs.chosen == 1
        await pilot.click(
            offset=(
                2 + 4 + 20 + 2,
                next(
                    i
                    for i, line in enumerate(picture(app).splitlines())
                    if line.startswith("│   1 ")
                ),
            )
        )
        await settled(pilot)
        assert (screen.place.layer, screen.place.head) == (1, 2)


async def test_a_server_does_not_show_its_insides() -> None:
    backend = FakeBackend("hello")
    backend.capabilities = Capabilities(server="llama.cpp", inside=False)
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "to be")
        await at(pilot, screen, 3)
        await pilot.press("L")
        await pilot.pause()
        assert complaints(app) == ["A server does not show its insides."]


@pytest.mark.parametrize("size", slow_but(ALL_SIZES, (80, 24)), ids=str)
@pytest.mark.parametrize("view", range(len(VIEWS)), ids=lambda n: VIEWS[n].NAME)
async def test_the_screen_looks_like_this(
    size: tuple[int, int], view: int, snapshot: SnapshotAssertion
) -> None:
    async with inside(digit(view), size=size) as (app, _, _, _):
        assert picture(app) == snapshot


TINY_SIZES = [(1, 1), (3, 9), (10, 4), (43, 8), (300, 100), (1, 100), (300, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("size", slow_but(TINY_SIZES, (43, 8)), ids=str)
async def test_no_size_is_too_small_or_too_large(size: tuple[int, int]) -> None:
    async with inside(size=size) as (_, screen, pilot, _):
        for n in range(len(VIEWS)):
            await press(pilot, digit(n), "up", "down", "right", "left", "pagedown", "s", "d", "m")
        assert screen.place.index == 7


@pytest.fixture
def start(tiny_directory: Path) -> Iterator[Callable[..., Terminal]]:
    del tiny_directory
    yield from terminals("tiny", "--seed", "1", "-n", "8")


@needs_pty
def test_in_a_terminal_the_numbers_are_those_of_the_network(
    start: Callable[..., Terminal], tiny: Checkpoint
) -> None:
    terminal = start("--prompt", "to be", "--dtype", "float32", size=(120, 40))
    terminal.shows("Done: 8 tokens")
    terminal.press("tab", "home", *["right"] * 4)
    terminal.shows("position 4")
    terminal.press("L")
    context = tiny.new_context()
    ids = tiny.tokenizer.encode("to b")
    best = lens_cell(context, ids, 2)
    name = tiny.tokenizer.token_bytes(best.tokens[0].token_id).decode().replace(" ", "·")
    p = percent(math.exp(best.logprobs[0]))
    terminal.shows('output, for "e"', rf"{re.escape(name)} +{re.escape(p)}")
    grid = lens_grid(context, ids)
    assert f"≈ {math.exp(grid.entropies[-1][-1]):,.3g}" in terminal.text
    terminal.press("2")
    found = heads(context, ids)
    terminal.shows(r"layer 2, head 1 looks at", rf"{re.escape(percent(max(found.weights[1][0])))}")
    terminal.press("3")
    row = work(context, ids, 2, 1).rows[0]
    weight = re.escape(percent(row.weight))
    terminal.shows(rf"{row.dot:.4f}".replace("-", "−") + rf" +\S+ +{weight}")
    terminal.press("4")
    e = tiny.tokenizer.encode("e")[0]
    other = next(each.token_id for each in best.tokens if each.token_id != e)
    parts = logit_parts(context, ids, e, other)
    total = re.escape(f"{parts.total:+.4f}".replace("-", "−"))
    terminal.shows(f"sum of {len(parts.parts)} parts {total}", 'logit of "e" minus logit of')
    terminal.press("right", "V")
    terminal.shows(r'logit of "\S+", in nats')
    terminal.press("5")
    terminal.shows(f"{architecture(tiny.model.config).n_params:,} parameters")
    terminal.press("escape")
    terminal.shows("position 5")
    assert terminal.quit() == 0
