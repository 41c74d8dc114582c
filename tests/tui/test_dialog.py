"""Screens over the main one, closed at the worst moment."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from textual._context import visible_screen_stack
from textual.app import App, ComposeResult
from textual.events import Key
from textual.renderables.background_screen import BackgroundScreen
from textual.screen import Screen
from textual.widgets import Label

from tests.terminal import PATIENCE
from tests.tui.fake import FakeBackend, app_with, running
from tui.screens.dialog import Dialog, Page


class Keys(App[None]):
    """An app that notes the keys it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str] = []

    def on_key(self, event: Key) -> None:
        self.keys.append(event.key)


class OnePage(Page):
    def compose(self) -> ComposeResult:
        yield Label("a page")


class OneDialog(Dialog[None]):
    def compose(self) -> ComposeResult:
        yield Label("a dialog")


@pytest.mark.parametrize("kind", [OnePage, OneDialog])
@pytest.mark.parametrize("turns", [0, 1, 3, 10])
async def test_a_screen_that_is_closed_while_it_opens_leaves_the_program_alive(
    kind: type[Screen[None]], turns: int
) -> None:
    app = Keys()
    async with asyncio.timeout(PATIENCE), app.run_test() as pilot:
        screen = kind()
        app.push_screen(screen)
        for _ in range(turns):
            await asyncio.sleep(0)
        screen.dismiss(None)
        while screen in app.screen_stack:
            await pilot.pause()
        await pilot.press("x")
        assert app.keys == ["x"]


async def test_windows_over_windows_are_not_drawn_inside_each_other() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (120, 40)) as pilot:
        for key in ("ctrl+o", "f1", "ctrl+p", "f1"):
            await pilot.press(key)
            await pilot.pause()
        stack = app.screen_stack
        assert len(stack) == 5
        for below, screen in pairwise(stack):
            visible_screen_stack.set(list(stack))  # as if nothing had been drawn yet
            found = screen.render()
            assert isinstance(found, BackgroundScreen) and found.screen is below
        for size in ((2, 40), (5, 9), (6, 5), (120, 40)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        assert app.is_running
