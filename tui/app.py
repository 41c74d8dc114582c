"""The application: themes, keys, signals. It knows no model and no text."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.driver import Driver
from textual.notifications import Notify
from textual.screen import Screen

from gpt.errors import UserError
from gpt.sanitize import one_line
from tui import preferences
from tui.keys import key_problems
from tui.preferences import Preferences
from tui.screens.main import MainScreen
from tui.terminal import outliving
from tui.widgets.token_view import TokenView


class GPTApp(App[None]):
    """gpt-tui."""

    TITLE = "gpt-tui"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "quit", priority=True, id="quit"),
    ]

    def __init__(
        self,
        main: MainScreen,
        preferences: Preferences | None = None,
        problems: Sequence[str] = (),
    ) -> None:
        self.preferences = preferences or Preferences()
        super().__init__()
        self._main = main
        self._problems = list(problems)
        if self.preferences.theme in self.available_themes:
            self.theme = self.preferences.theme
        else:
            self._problems.append(f"there is no theme {self.preferences.theme!r}")
        self.set_keymap(dict(self.preferences.keys))

    def get_default_screen(self) -> Screen[None]:
        """The one screen."""
        return self._main

    def get_driver_class(self) -> type[Driver]:
        """A terminal that vanishes ends the app as a hang-up does, and nothing is lost."""
        return outliving(super().get_driver_class(), partial(self.exit, return_code=129))

    def on_mount(self) -> None:
        """Leave the terminal as it was when somebody ends the process; keep what is chosen."""
        self.theme_changed_signal.subscribe(self, lambda theme: self._theme_chosen(theme.name))
        self.call_after_refresh(self._complain)
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGHUP"):
            if number := getattr(signal, name, None):
                try:
                    loop.add_signal_handler(number, partial(self.exit, return_code=128 + number))
                except NotImplementedError:  # Windows has no such handlers
                    continue

    def _complain(self) -> None:
        """What of the preferences could not be used."""
        for problem in [*self._problems, *key_problems(self.preferences.keys)]:
            self.notify(one_line(problem), severity="warning", markup=False, timeout=10)

    def on_notify(self, event: Notify) -> None:
        """An answer takes the place of what was said before and has been seen."""
        if event.notification.severity == "information":
            self.clear_notifications()
            # Textual would leave the room that they took.
            self.screen.query("ToastHolder").remove()

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """What the heat map looks like, among the theme's colours."""
        marks = self.preferences.marks or "NO_COLOR" in os.environ
        return {
            "heat-map": self.preferences.heat_map,
            "heat-marks": "true" if marks else "false",
        }

    def _theme_chosen(self, theme: str) -> None:
        if theme != self.preferences.theme:
            self.prefer(theme=theme)

    def prefer(self, **changes: Any) -> None:
        """Let choices hold from now on, and next time too. Mappings are whole ones."""
        old = self.preferences
        self.preferences = replace(old, **changes)
        self.set_keymap(dict(self.preferences.keys))
        if self.theme != self.preferences.theme:
            self.theme = self.preferences.theme
        elif (old.heat_map, old.marks) != (self.preferences.heat_map, self.preferences.marks):
            self.refresh_css(animate=False)
            self.theme_changed_signal.publish(self.current_theme)
        for name, value in changes.items():
            if isinstance(value, Mapping):
                gone = dict.fromkeys(getattr(old, name).keys() - value.keys())
                changes[name] = {**value, **gone}
        try:
            preferences.save(changes)
        except UserError as error:
            self.notify(one_line(str(error)), severity="error", markup=False, timeout=10)

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
