"""Models worth trying: a table, their cards, and a download that asks first."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.app import App
from textual.widgets import Button, Static

from convert.__main__ import main
from gpt import known_models, models
from gpt.known_models import KNOWN
from tui.model_card import known_card
from tui.screens import download
from tui.screens.download import DownloadScreen
from tui.screens.models import ModelPicker

PATIENCE = float(os.environ.get("PATIENCE", "20"))


def test_the_table_is_plausible() -> None:
    assert len({model.name for model in KNOWN}) == len(KNOWN)
    for model in KNOWN:
        assert 1.9 <= model.n_bytes / model.n_params <= 4.5, "2 or 4 bytes a parameter"
        facts = dict(known_card(model).facts)
        assert facts["Command"] == f"gpt-tui {model.hub_id}" and facts["Licence"] == model.licence
        assert ("gated" in model.licence) == model.hub_id.startswith("meta-llama/")


def test_the_list_is_printed_and_nothing_else_happens(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT_TUI_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(["--list"])
    assert not ended.value.code
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == len(KNOWN) + 2
    for model, line in zip(KNOWN, shown[1:], strict=False):
        assert line.startswith(model.hub_id) and known_models.size(model.n_bytes) in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("n", "shown"), [(548e6, "548 MB"), (1.52e9, "1.52 GB"), (0, "0 MB")])
def test_sizes_are_short(n: float, shown: str) -> None:
    assert known_models.size(n) == shown


class Asking(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.picker = ModelPicker("shakespeare")
        self.answers: list[str | None] = []

    def on_mount(self) -> None:
        self.push_screen(self.picker, self.answers.append)


def converter(tmp_path: Path, *lines: object, then: str = "") -> list[str]:
    """A command that says these lines and notes how it was called."""
    said = "".join(f"print({json.dumps(json.dumps(line))}, flush=True)\n" for line in lines)
    program = f"import sys, time, signal, pathlib\npathlib.Path({str(tmp_path / 'asked')!r})"
    program += f".write_text(' '.join(sys.argv[1:]))\n{said}{then}"
    return [sys.executable, "-c", program]


async def until(app: App[None], seen: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not seen():
            await asyncio.sleep(0.02)


def progress(app: App[None]) -> str:
    return str(app.screen.query_one("#progress", Static).render())


PROGRESS = {
    "event": "progress",
    "phase": "download",
    "file": "a",
    "file_done": 1,
    "file_total": 2,
    "done": 274_000_000,
    "total": 548_000_000,
}


async def test_a_model_is_downloaded_after_a_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT_TUI_HOME", str(tmp_path))
    done = {"event": "done", "name": "gpt2"}
    command = converter(tmp_path, {"event": "found"}, PROGRESS, done)
    monkeypatch.setattr(download.DownloadScreen.__init__, "__defaults__", (command,))
    app = Asking()
    async with app.run_test(size=(110, 32)) as pilot:
        options = app.picker.options
        names = app.picker._names
        assert names[: len(models.available())] == [*models.available()]
        assert "gpt2" in names and "↓ 548 MB" in str(
            options.get_option_at_index(names.index("gpt2")).prompt
        )
        options.highlighted = names.index("gpt2")
        await pilot.pause()
        assert "Download" in str(app.picker.query_one("#load", Button).label)
        await pilot.press("enter")
        assert isinstance(app.screen, DownloadScreen)
        text = " ".join(str(each.render()) for each in app.screen.query(Static))
        assert "548 MB" in text and "MIT" in text
        assert not (tmp_path / "asked").exists(), "nothing is fetched unasked"
        await pilot.press("enter")
        await until(app, lambda: app.answers)
        assert app.answers == ["gpt2"]
        assert (tmp_path / "asked").read_text() == "gpt2 --json"


async def test_escape_asks_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = converter(tmp_path)
    app = Asking()
    async with app.run_test(size=(110, 32)) as pilot:
        app.push_screen(DownloadScreen(KNOWN[0], command))
        await pilot.pause()
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, ModelPicker) and not (tmp_path / "asked").exists()


@pytest.mark.parametrize(
    ("lines", "then", "shown"),
    [
        ([{"event": "error", "text": "no \x1b[31mspace"}], "sys.exit(1)", "no ␛[31mspace"),
        ([], "sys.exit(3)", "ended with status 3"),
        ([["no object"]], "", "the converter has ended"),
        ([{"event": "progress"}], "time.sleep(60)", "the converter has ended"),
    ],
)
async def test_what_goes_wrong_is_said_and_can_be_tried_again(
    tmp_path: Path, lines: list[object], then: str, shown: str
) -> None:
    app = Asking()
    async with app.run_test(size=(110, 32)) as pilot:
        app.push_screen(DownloadScreen(KNOWN[0], converter(tmp_path, *lines, then=then)))
        await pilot.pause()
        await pilot.press("enter")
        await until(app, lambda: shown in progress(app))
        assert not app.screen.query_one("#start", Button).disabled


async def test_leaving_ends_the_converter(tmp_path: Path) -> None:
    app = Asking()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = DownloadScreen(KNOWN[1], converter(tmp_path, PROGRESS, then="time.sleep(600)"))
        app.push_screen(screen)
        await pilot.pause()
        await pilot.press("enter")
        await until(app, lambda: "274 MB of 548 MB" in progress(app))
        assert "Downloading ━━━━━━━━━━━━━━━━━━━━────" in progress(app)
        process = screen._process
        assert process
        await pilot.press("escape")
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() != 0
        assert isinstance(app.screen, ModelPicker)
