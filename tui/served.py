"""A program that runs for a browser: what Textual's own driver for it lacks, and what it may do."""

from __future__ import annotations

from pathlib import Path

from textual import events, messages
from textual.drivers.web_driver import WebDriver

from gpt.errors import UserError
from gpt.sanitize import one_line
from tui import store


class ServedDriver(WebDriver):
    """Begins with the focus, and ends with its server."""

    def start_application_mode(self) -> None:
        """Textual waits, without focus and footer, until the page is clicked."""
        super().start_application_mode()
        self._app.call_later(self._app.post_message, events.AppFocus())

    def run_input_thread(self) -> None:
        """Input that has ended means that the server has ended, or was killed."""
        super().run_input_thread()
        if not self.exit_event.is_set():
            self._app.post_message(messages.ExitApp())


def export_path(name: str) -> Path:
    """Where a program in a browser may write: a file in the directory of texts.

    Raises UserError for a name that leads to any other place.
    """
    path = store.home() / name
    if path.parent != store.home() or path.name == "..":
        raise UserError(f"in a browser a name is without directories, and {one_line(name)} is not")
    return path
