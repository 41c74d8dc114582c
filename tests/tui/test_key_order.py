"""A key has acted at once in every window, so that the next one need not wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tui.fake import FakeBackend, app_with, running
from tests.tui.test_app import write

WINDOWS = ("f1", "f2", "f3", "f4", "f5", "f6", "f9", "f10", "ctrl+o", "ctrl+p", "ctrl+l", "L", "P")


@pytest.mark.parametrize("key", WINDOWS)
async def test_no_key_is_waited_for(
    key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # an export lands here
    monkeypatch.setattr("tui.key_order.LONGEST", 1000.0)
    app = app_with(FakeBackend("hello"))
    async with running(app, (120, 40)) as pilot:
        screen = await write(pilot, app, "ab")
        screen.view.focus()
        for pressed in (key, "down", "tab", "x", "down", "enter", "down", "escape", "escape"):
            await pilot.press(pressed)
