"""The application: themes, keys, signals. It knows no model and no text."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable
from functools import partial
from typing import ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen

from tui.screens.main import MainScreen
from tui.widgets.token_view import TokenView


class GPTApp(App[None]):
    """gpt-tui."""

    TITLE = "gpt-tui"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "quit", priority=True, id="quit"),
    ]

    def __init__(self, main: MainScreen) -> None:
        super().__init__()
        self._main = main

    def get_default_screen(self) -> Screen[None]:
        """The one screen."""
        return self._main

    def on_mount(self) -> None:
        """Leave the terminal as it was when somebody ends the process."""
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGHUP"):
            if number := getattr(signal, name, None):
                try:
                    loop.add_signal_handler(number, partial(self.exit, return_code=128 + number))
                except NotImplementedError:  # Windows has no such handlers
                    continue

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette offers what the keys do."""
        yield from super().get_system_commands(screen)
        if not isinstance(screen, MainScreen):
            return
        view = screen.query_one(TokenView)
        for owner, bindings in (
            (
                screen,
                [b for part in MainScreen.__mro__ for b in part.__dict__.get("BINDINGS", ())],
            ),
            (view, TokenView.BINDINGS),
        ):
            for binding in bindings:
                if isinstance(binding, Binding):
                    yield SystemCommand(
                        binding.description.capitalize(),
                        f"key {binding.key}" + (" in the text" if owner is view else ""),
                        partial(owner.run_action, binding.action),
                    )
