"""Whole screens as text, at fixed sizes; `pytest --snapshot-update` takes new ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from gpt.checkpoint import save
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model
from tests.tui.fake import FakeBackend, app_with, main_screen, running
from tests.tui.test_app import write
from tests.tui.test_branching import at
from tui.app import GPTApp

WIDE = (110, 32)
REPLY = "hello, you\nworld of 漢字 and é"


def picture(app: GPTApp) -> str:
    """What stands on the screen, without colours."""
    rows = app.screen._compositor.render_strips()
    text = "\n".join(row.text.rstrip() for row in rows)
    return re.sub(r"first after \d+ ms", "first after 1 ms", text)


@pytest.mark.parametrize(
    ("size", "keys"),
    [
        pytest.param(WIDE, [], id="main"),
        pytest.param((80, 24), [], id="main 80x24"),
        pytest.param((60, 20), [], id="main 60x20"),
        pytest.param((30, 10), [], id="main 30x10"),
        pytest.param(WIDE, ["left", "i"], id="a branch"),
        pytest.param(WIDE, ["f2"], id="the settings at work"),
        pytest.param(WIDE, ["left", "ctrl+g", "t"], id="the tree"),
        pytest.param(WIDE, ["p"], id="paths"),
        pytest.param(WIDE, ["f5"], id="line by line"),
        pytest.param((60, 20), ["f5"], id="line by line 60x20"),
        pytest.param(WIDE, ["home", "f8"], id="what if"),
        pytest.param(WIDE, ["home", "v", "down", "enter", "d"], id="two models"),
        pytest.param((60, 20), ["home", "v", "down", "enter"], id="two models 60x20"),
        pytest.param(WIDE, ["k", *" no", "enter", *"yes", "enter"], id="named continuations"),
        pytest.param(WIDE, ["e", "right"], id="every layer"),
        pytest.param(WIDE, ["ctrl+o"], id="models"),
        pytest.param(WIDE, ["ctrl+l"], id="jump"),
        pytest.param((80, 24), ["f1"], id="help"),
    ],
)
async def test_the_screen_looks_like_this(
    size: tuple[int, int], keys: list[str], home: Path, snapshot: SnapshotAssertion
) -> None:
    save(home / "models" / "other", random_model(), CharTokenizer(CHARACTERS))
    backend = FakeBackend(REPLY)
    backend.divergence = [0.2 * i for i in range(len("to be" + REPLY) - 1)]
    app = app_with(backend, seed=7)
    async with running(app, size) as pilot:
        screen = await write(pilot, app, "to be")
        await at(pilot, screen, 7)
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
            while main_screen_is_writing(app):
                await pilot.pause()
        for _ in range(100):  # a panel that comes is laid out, and what it says is drawn
            before = picture(app)
            await pilot.pause(0.1)
            if picture(app) == before:
                break
        assert picture(app) == snapshot


def main_screen_is_writing(app: GPTApp) -> bool:
    """The screen at the bottom waits for the backend."""
    return bool(getattr(app.screen_stack[0], "is_writing", False))


OPENS = ("f1", "f3", "f4", "f5", "f6", "f9", "ctrl+o", "ctrl+p", "e", "t", "k", "p", "i", "space")
"""Keys that open a panel, a window or a field."""


SIZES = [(1, 1), (3, 9), (10, 4), (43, 8), (71, 21), (300, 100), (1, 100), (300, 1)]


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_no_size_is_too_small_or_too_large(size: tuple[int, int]) -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, size) as pilot:
        await write(pilot, app, "ab")
        main_screen(app).view.focus()
        await pilot.pause()
        for key in (
            "f2",
            "P",
            *(each for opens in OPENS for each in (opens, "escape")),
            "ctrl+l",
            "escape",
        ):
            await pilot.press(key)
        await pilot.pause()
        assert main_screen(app).document.text == "abhello"
