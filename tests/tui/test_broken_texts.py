"""Texts that are broken, in the program itself: named, set aside, and in nobody's way."""

from __future__ import annotations

import os

import pytest
from textual.widgets import OptionList

from tests.tui.fake import FakeBackend, app_with, main_screen, running
from tests.tui.test_app import complaints
from tests.tui.test_store import document_of, save
from tui import store
from tui.__main__ import _last_text
from tui.store import Place


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files there")
async def test_all_texts_can_be_opened_beside_broken_ones() -> None:
    good = save(document_of("ab"), Place())
    os.mkfifo(store.home() / "pipe.jsonl")
    (store.home() / "deep.jsonl").write_text("[" * 100_000)
    (store.home() / "directory.jsonl").mkdir()
    assert _last_text().path == good
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        for name in ("deep", "directory", "pipe"):
            await pilot.press("f3")
            await pilot.pause()
            options = app.screen.query_one(OptionList)
            assert "ab" in str(options.get_option_at_index(0).prompt)
            await pilot.press(*name)
            assert f"unreadable: {name}.jsonl" in str(options.get_option_at_index(0).prompt)
            await pilot.press("enter")
            await pilot.pause()
            assert f"set aside as {name}.broken" in complaints(app)[-1]
        await pilot.press("f3", "enter")
        await pilot.pause()
        assert main_screen(app).document.text == "ab"
    assert [entry.path for entry in store.entries()] == [good]


async def test_a_start_with_a_broken_text_begins_anew() -> None:
    path = save(document_of("ab"), Place())
    path.write_text("nonsense")
    entry = _last_text()
    assert entry.path == path and not entry.model
    app = app_with(FakeBackend("hello"), text=entry.path)
    async with running(app) as pilot:
        await pilot.pause()
        assert f"set aside as {path.stem}.broken" in complaints(app)[-1]
        assert main_screen(app).document.text == ""
