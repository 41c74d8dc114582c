"""Exporting, by keys and by mouse: format, branches, file; a refusal loses nothing."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from tests.tui.fake import FakeBackend, app_with, running
from tests.tui.test_app import complaints, write
from tui.app import GPTApp
from tui.export.formats import write as write_file
from tui.export.parts import Export
from tui.node import Remark
from tui.screens.export import ExportScreen
from tui.screens.main import MainScreen


@asynccontextmanager
async def exporting(
    directory: Path, monkeypatch: pytest.MonkeyPatch, *, forks: bool = False
) -> AsyncIterator[tuple[GPTApp, Pilot[None], ExportScreen]]:
    """The dialog over "abchello", perhaps with another branch "a!" that has a star."""
    monkeypatch.chdir(directory)
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "abc")
        if forks:
            document = screen.document
            text, end = list(document.path), document.path[-1]
            document.cut(1)
            document.append([text[4].step], is_prompt=True)
            document.set_remark(document.path[-1], Remark(is_starred=True, name="[b]"))
            document.show(end)
        await pilot.press("f4")
        await pilot.pause()
        assert isinstance(app.screen, ExportScreen)
        yield app, pilot, app.screen


async def until_closed(pilot: Pilot[None], app: GPTApp) -> None:
    for _ in range(1000):
        if isinstance(app.screen, MainScreen):
            return
        await pilot.pause(0.01)
    raise AssertionError("the dialog stays open")


async def message(pilot: Pilot[None], app: GPTApp) -> str:
    """What is said after the dialog has closed; it comes a moment later."""
    await until_closed(pilot, app)
    for _ in range(1000):
        if said := complaints(app):
            return said[-1]
        await pilot.pause(0.01)
    raise AssertionError("nothing is said")


async def refusal(pilot: Pilot[None], dialog: ExportScreen) -> str:
    for _ in range(1000):
        said = str(dialog.problem.render())
        if said and not dialog.problem.has_class("-busy"):
            return said
        await pilot.pause(0.01)
    raise AssertionError("nothing is refused")


async def test_without_a_text_there_is_nothing_to_export() -> None:
    app = app_with(FakeBackend())
    async with running(app) as pilot:
        await pilot.press("f4")
        assert isinstance(app.screen, MainScreen)


async def test_typing_replaces_the_name_and_keeps_directory_and_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with exporting(tmp_path, monkeypatch) as (app, pilot, dialog):
        assert dialog.field.value.startswith(f"{tmp_path}/text-")
        await pilot.press(*"mine", "enter")
        assert await message(pilot, app) == f"Wrote {tmp_path / 'mine.html'}"
        assert "<!doctype html>" in (tmp_path / "mine.html").read_text()


async def test_an_end_that_is_typed_before_the_one_that_stands_there_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with exporting(tmp_path, monkeypatch) as (app, pilot, _):
        await pilot.press(*"mine.html", "enter")
        assert await message(pilot, app) == f"Wrote {tmp_path / 'mine.html'}"


async def test_a_path_that_is_typed_after_the_directory_counts_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    async with exporting(tmp_path, monkeypatch) as (app, pilot, dialog):
        assert dialog.field.value.startswith(f"{tmp_path}/text-")
        await pilot.press(*f"{tmp_path}/other/mine", "enter")  # in the place of the name
        assert await message(pilot, app) == f"Wrote {tmp_path / 'other' / 'mine.html'}"


async def test_an_end_of_another_format_chooses_that_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with exporting(tmp_path, monkeypatch) as (app, pilot, dialog):
        await pilot.press(*"~/", *"mine.json")
        await pilot.pause()
        assert dialog.field.value == "~/mine.json", "what is seen is what is written"
        monkeypatch.setenv("HOME", str(tmp_path))
        await pilot.press("enter")
        assert await message(pilot, app) == f"Wrote {tmp_path / 'mine.json'}"
        assert json.loads((tmp_path / "mine.json").read_text())


async def test_keys_that_edit_go_into_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with exporting(tmp_path, monkeypatch) as (_, pilot, dialog):
        await pilot.press("home", *["delete"] * len(dialog.field.value), *"ab", "backspace", "c")
        assert dialog.field.value == "ac"


async def test_the_arrows_choose_the_format_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with exporting(tmp_path, monkeypatch) as (app, pilot, _):
        await pilot.press("left", "enter")
        assert (await message(pilot, app)).endswith(".md")


async def test_a_file_that_is_being_written_is_named_before_and_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slow(path: Path, export: Export) -> None:
        assert go_on.wait(60)
        write_file(path, export)

    monkeypatch.setattr("tui.screens.export.write", slow)
    async with exporting(tmp_path, monkeypatch) as (app, pilot, dialog):
        await pilot.press(*"mine", "enter", "escape")  # what is being written is finished
        await pilot.pause()
        shown = " ".join(str(dialog.problem.render()).split())
        assert shown == f"Writing {tmp_path / 'mine.html'} …" and dialog.problem.region.area
        assert app.screen is dialog
        go_on.set()
        await until_closed(pilot, app)
        while not complaints(app):
            await pilot.pause(0.01)
        assert complaints(app) == [f"Wrote {tmp_path / 'mine.html'}"]


async def test_name_and_format_follow_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with exporting(tmp_path, monkeypatch) as (app, pilot, dialog):
        dialog.formats.focus()
        await pilot.press("left")
        assert dialog.field.value.endswith(".md")
        dialog.field.value = "a.b.JSON"
        await pilot.pause()
        assert dialog.formats.chosen == 3
        dialog.field.value = "a.b"
        await pilot.pause()
        await pilot.press("left", "left", "left", "left")
        assert dialog.field.value == "a.b.txt"
        await pilot.press("enter")
        await until_closed(pilot, app)
        assert (tmp_path / "a.b.txt").read_text() == "abchello"


async def test_a_name_without_an_ending_gets_that_of_the_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with exporting(tmp_path, monkeypatch) as (app, pilot, dialog):
        await pilot.press("left")
        dialog.field.value = "star"
        await pilot.press("enter")
        await until_closed(pilot, app)
        assert "# A text by" in (tmp_path / "star.md").read_text()


async def test_a_directory_gets_a_file_with_the_proposed_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "essays").mkdir()
    async with exporting(tmp_path, monkeypatch) as (app, pilot, dialog):
        await pilot.press("left")
        dialog.field.value = str(tmp_path / "essays")
        await pilot.press("enter")
        await until_closed(pilot, app)
    (written,) = (tmp_path / "essays").iterdir()
    assert re.fullmatch(r"text-[0-9-]+\.md", written.name)
    assert not (tmp_path / "essays.md").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.txt", "exists already"),
        ("b.pdf", "must end with"),
        (".html", "Type a name before .html"),
        ("no/such/c.txt", "there is no directory"),
        ("~nobody-has-this-name/d.txt", "cannot write"),
        ("  ", "Type a name"),
    ],
)
async def test_a_refusal_says_why_and_keeps_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    (tmp_path / "a.txt").write_text("old")
    async with exporting(tmp_path, monkeypatch) as (app, pilot, dialog):
        dialog.field.value = name
        await pilot.pause()
        await pilot.press("enter")
        assert reason.lower() in (await refusal(pilot, dialog)).lower()
        assert dialog.field.value == name and app.focused is dialog.field
        dialog.field.value = str(tmp_path / "fine.txt")
        await pilot.pause()
        await pilot.press("enter")
        await until_closed(pilot, app)
        assert (tmp_path / "fine.txt").read_text() == "abchello"
    assert (tmp_path / "a.txt").read_text() == "old"


async def test_starred_and_all_branches_come_in_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with exporting(tmp_path, monkeypatch, forks=True) as (app, pilot, dialog):
        dialog.what.focus()
        await pilot.press("right", "right")
        dialog.field.value = "all.json"
        await pilot.press("enter")
        await until_closed(pilot, app)
        found = json.loads((tmp_path / "all.json").read_text())
        assert [(t["text"], t["is_starred"], t["name"]) for t in found] == [
            ("abchello", False, ""),
            ("ae", True, "[b]"),
        ]
        await pilot.press("f4")
        assert isinstance(app.screen, ExportScreen)
        await pilot.pause()
        dialog = app.screen
        await pilot.click("#what", offset=(2 + len(" This branch ") + 3, 1))
        dialog.field.value = "star.txt"
        await pilot.pause()
        await pilot.click("#export")
        await until_closed(pilot, app)
        assert (tmp_path / "star.txt").read_text() == "ae"


async def test_what_is_not_there_is_grey_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with exporting(tmp_path, monkeypatch) as (app, pilot, dialog):
        assert "No branch has a star" in str(dialog.what.border_subtitle)
        dialog.what.focus()
        await pilot.press("right")
        assert dialog.what.chosen == 0
        await pilot.click("#what", offset=(2 + len(" This branch ") + 3, 1))
        assert dialog.what.chosen == 0
        assert "No branch has a star" in complaints(app)[-1]
        await pilot.press("escape")
        assert isinstance(app.screen, MainScreen)
    assert [each.name for each in tmp_path.iterdir()] == ["texts"]


async def test_in_a_browser_only_a_name_in_the_directory_of_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tui import store

    monkeypatch.setattr(GPTApp, "is_web", True)
    store.home().mkdir(parents=True, exist_ok=True)
    async with exporting(tmp_path, monkeypatch) as (app, pilot, dialog):
        assert "/" not in dialog.field.value
        dialog.field.value = "/etc/a.txt"
        await pilot.press("enter")
        assert "use a name without directories" in (await refusal(pilot, dialog)).lower()
        dialog.field.value = "a.txt"
        await pilot.press("enter")
        await until_closed(pilot, app)
        assert (store.home() / "a.txt").read_text() == "abchello"
    assert [each.name for each in tmp_path.iterdir()] == ["texts"]


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 40), (200, 60)], ids=str)
async def test_the_whole_dialog_is_on_the_screen(size: tuple[int, int]) -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, size) as pilot:
        await write(pilot, app, "abc")
        await pilot.press("f4")
        await pilot.pause()
        assert isinstance(app.screen, ExportScreen)
        for widget in app.screen.query("Choices, Field, Button"):
            assert widget.region.height >= 1 and app.screen.region.contains_region(widget.region)
        assert app.screen.query_one("#formats").size.height == 1
