"""The program in a browser: additions to Textual's driver, and where it may write."""

from __future__ import annotations

from pathlib import Path

from textual import events, messages
from textual.drivers.web_driver import WebDriver

from gpt.errors import UserError
from gpt.sanitize import one_line
from tui import store


class ServedDriver(WebDriver):
    """Has the focus from the start, and ends with its server."""

    def start_application_mode(self) -> None:
        """Take the focus; Textual would wait for a click, without a footer."""
        super().start_application_mode()
        self._app.call_later(self._app.post_message, events.AppFocus())

    def run_input_thread(self) -> None:
        """End when the input ends: the server ended or was killed."""
        super().run_input_thread()
        if not self.exit_event.is_set():
            self._app.post_message(messages.ExitApp())


def export_path(name: str) -> Path:
    """The path of an export from a browser: a file in the directory of texts and nowhere else."""
    path = store.home() / name
    if path.parent != store.home() or path.name == "..":
        raise UserError(f"in a browser, use a name without directories; {one_line(name)} has some")
    return path
