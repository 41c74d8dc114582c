"""Says what a model's download takes, and downloads and converts it once the person agrees."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, ClassVar

from textual import getters, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Static

from gpt.child import child_environment
from gpt.known_models import KnownModel, size
from gpt.sanitize import one_line
from tui.labels import shortened
from tui.screens.dialog import Dialog

CONVERTER = (sys.executable, "-P", "-m", "convert")
_LONGEST_LINE = 1 << 20
_BAR = 40
_PHASES = {
    "download": "Downloading",
    "convert": "Converting",
    "verify": "Comparing",
    "measure": "Measuring",
}


class DownloadScreen(Dialog[str | None]):
    """A question, then the progress; returns the name of the new model, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back", id="download.back"),
        Binding("enter", "start", "download", id="download.start", show=False),
    ]
    CSS = """
    DownloadScreen { align: center middle; }
    DownloadScreen #download {
        width: 76;
        max-width: 100%;
        height: auto;
        border: round $border;
        background: $background;
        padding: 0 1;
    }
    DownloadScreen Static { height: auto; text-wrap: wrap; }
    DownloadScreen #progress { height: 2; }
    DownloadScreen #buttons { height: 1; align-horizontal: right; }
    DownloadScreen #buttons Button { margin: 0 0 0 2; }
    """

    progress = getters.query_one("#progress", Static)

    def __init__(self, model: KnownModel, converter: Sequence[str] = CONVERTER) -> None:
        """converter: the command that downloads and converts; tests use another one."""
        super().__init__()
        self._model = model
        self._command = [*converter, model.hub_id, "--json"]
        self._process: Process | None = None
        self._is_left = False

    def compose(self) -> ComposeResult:
        """What it takes, how far it is, and what to press."""
        model = self._model
        about = size(model.n_bytes)
        with Vertical(id="download") as frame:
            frame.border_title = Content(f"Download {model.name}?")
            yield Static(
                Content(
                    f"About {about} come from Hugging Face ({model.hub_id}); the converted model "
                    f"takes about as much again on this disk. Licence: {model.licence}."
                )
            )
            yield Static(id="progress")
            with Horizontal(id="buttons"):
                yield Button("Download (Enter)", id="start", compact=True)
                yield Button("Back (Esc)", id="back", compact=True)

    def on_mount(self) -> None:
        """Enter agrees."""
        self.query_one("#start", Button).focus()

    @on(Button.Pressed, "#start")
    def action_start(self) -> None:
        """Download and convert."""
        button = self.query_one("#start", Button)
        if not button.disabled:
            button.disabled = True
            self._say("Asking the hub…")
            self._download()

    @on(Button.Pressed, "#back")
    def action_leave(self) -> None:
        """Stop, and go back. The files that arrived stay in the hub's cache."""
        self._is_left = True
        self._stop()
        self.dismiss(None)

    def on_unmount(self) -> None:
        """No download goes on unseen."""
        self._stop()

    def _stop(self) -> None:
        if self._process and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.terminate()

    @work(exclusive=True)
    async def _download(self) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=DEVNULL,
                env=child_environment(),
                start_new_session=True,
                limit=_LONGEST_LINE,
            )
        except OSError as error:
            self._fail(f"the converter cannot be started: {error.strerror}")
            return
        self._process = process
        if self._is_left:
            self._stop()
            return
        name = await self._follow(process)
        status = await process.wait()
        if name is not None:
            self.dismiss(name)
        elif not self.query_one("#start", Button).disabled:
            return  # the error is shown
        elif not self._is_left:
            self._fail(f"the converter has ended with status {status}")

    async def _follow(self, process: Process) -> str | None:
        """Show what the converter says; the name of the new model, or None."""
        assert process.stdout  # noqa: S101
        name = None
        try:
            async for line in process.stdout:
                event = json.loads(line)
                match event["event"]:
                    case "done":
                        name = str(event["name"])
                    case "error":
                        self._fail(str(event["text"]))
                    case "notice":
                        self._say(str(event["text"]))
                    case "progress":
                        self._say(_progress(event))
        except (ValueError, KeyError, TypeError):
            self._stop()
        return name

    def _say(self, text: str) -> None:
        if self.is_mounted:
            self.progress.update(Content(one_line(shortened(text))))

    def _fail(self, why: str) -> None:
        """Show an error; the person may try again."""
        if self.is_mounted:
            self._say(why)
            self.query_one("#start", Button).disabled = False


def _progress(event: dict[str, Any]) -> str:
    """The phase with a bar: "Downloading ━━━━───── 123 MB of 548 MB"."""
    done, total = int(event["done"]), max(1, int(event["total"]))
    full = min(_BAR, _BAR * done // total)
    phase = _PHASES.get(event["phase"], "Working")
    return f"{phase} {'━' * full}{'─' * (_BAR - full)} {size(done)} of {size(total)}"
