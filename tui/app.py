"""The application: themes, keys, signals. It knows no model and no text."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
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
        self._is_whole = False
        self._is_leaving = False
        self._status: int | None = None
        """With which it ends, once it is whole."""
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
        return outliving(super().get_driver_class(), partial(self.end, 129))

    def on_mount(self) -> None:
        """Keep what is chosen."""
        self.theme_changed_signal.subscribe(self, lambda theme: self._theme_chosen(theme.name))
        self.call_after_refresh(self._complain)

    async def run_async(self, **options: Any) -> None:
        """Run. A signal ends it, also in its first moment, and leaves the terminal as it was."""
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT"):
            if number := getattr(signal, name, None):
                with suppress(NotImplementedError, RuntimeError):  # Windows; not the main thread
                    loop.add_signal_handler(number, partial(self.end, 128 + number))
        await super().run_async(**options)

    def end(self, status: int) -> None:
        """Leave with this exit status, as soon as the screen is whole."""
        if not self._is_whole:  # its parts that are still on their way would not find it
            self._status = status
        elif not getattr(self.screen, "is_shown", True):
            self.call_after_refresh(self.end, status)
        else:
            self._is_leaving = True
            self.exit(return_code=status)

    def whole(self) -> None:
        """The screen has all its parts."""
        self._is_whole = True
        if self._status is not None:
            self.end(self._status)

    async def action_quit(self) -> None:
        """Leave."""
        self.end(0)

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

    def action_toggle_help(self) -> None:
        """The keys of what has the focus, beside everything else; once more hides them."""
        if self.screen.query("HelpPanel"):
            self.action_hide_help_panel()
        elif getattr(self.screen, "is_shown", True):
            self.action_show_help_panel()

    async def run_action(self, *arguments: Any, **options: Any) -> bool:
        """Run what a key does. A mistake in it is said, and the program goes on."""
        if self._is_leaving:  # a screen that is opened now would get no parts
            return True
        try:
            return await super().run_action(*arguments, **options)
        except Exception as error:
            if self.is_headless:  # nobody would see it
                raise
            said = f"That key failed ({type(error).__name__}: {error}). Nothing is lost."
            self.notify(one_line(said), severity="error", markup=False, timeout=10)
            return True

    def action_command_palette(self) -> None:
        """All commands, in a list that can be answered once."""
        from tui.screens.dialog import Palette

        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))

    def search_themes(self) -> None:
        """All themes, likewise."""
        from textual.theme import ThemeProvider

        from tui.screens.dialog import Palette

        self.push_screen(Palette(providers=[ThemeProvider], placeholder="Search for themes…"))

    def action_picture(self) -> None:
        """Save the screen as an SVG file in the current directory."""
        path = Path(f"gpt-tui-{datetime.now().astimezone():%Y-%m-%d-%H%M%S}.svg")
        try:
            path = path.absolute()
            path.write_text(self.export_screenshot(), encoding="utf-8")
        except OSError as error:  # the directory may be gone
            reason = f"cannot write {path}: {error.strerror}"
            self.notify(one_line(reason), severity="error", markup=False, timeout=10)
        else:
            self.notify(one_line(f"wrote {path}"), markup=False)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette offers what the keys do."""
        for command in super().get_system_commands(screen):
            if command.title != "Screenshot":
                yield command
        if not self.is_web:  # the file would be on the other side
            yield SystemCommand(
                "Screenshot", "Save a picture of the screen as an SVG file", self.action_picture
            )
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
