"""The application: themes, keys, signals; no model, no text."""

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

from textual import actions, on
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.dom import DOMNode
from textual.driver import Driver
from textual.notifications import Notify
from textual.screen import Screen

from gpt.errors import UserError
from gpt.sanitize import one_line
from tui import preferences
from tui.keys import KEYS, QUIT, key_problems
from tui.possible import Refusal
from tui.preferences import Preferences
from tui.screens.main import MainScreen
from tui.screens.session_screen import SessionScreen
from tui.terminal import outliving
from tui.widgets.prompt import Prompt
from tui.widgets.token_view import TokenView


class GPTApp(App[None]):
    """gpt-tui."""

    TITLE = "gpt-tui"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [QUIT.binding]

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
        """Exit status to end with as soon as the screen is complete."""
        if self.preferences.theme in self.available_themes:
            self.theme = self.preferences.theme
        else:
            self._problems.append(f"unknown theme {self.preferences.theme!r}")
        self.set_keymap(dict(self.preferences.keys))

    def get_default_screen(self) -> Screen[None]:
        """The main screen."""
        return self._main

    def get_driver_class(self) -> type[Driver]:
        """A driver that ends the program properly if the terminal disappears."""
        return outliving(super().get_driver_class(), partial(self.end, 129))

    def on_mount(self) -> None:
        """Save a theme when it is chosen, and report problems."""
        self.theme_changed_signal.subscribe(self, lambda theme: self._theme_chosen(theme.name))
        self.call_after_refresh(self._complain)

    async def run_async(self, **options: Any) -> None:
        """Run until the end or a signal; the terminal is restored in both cases."""
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT"):
            if number := getattr(signal, name, None):
                with suppress(NotImplementedError, RuntimeError):  # Windows; not the main thread
                    loop.add_signal_handler(number, partial(self.end, 128 + number))
        await super().run_async(**options)

    def end(self, status: int) -> None:
        """End with this exit status, as soon as the screen is complete."""
        if not self._is_whole:  # widgets that are still being mounted would fail
            self._status = status
        elif not getattr(self.screen, "is_shown", True):
            self.call_after_refresh(self.end, status)
        else:
            self._is_leaving = True
            self.exit(return_code=status)

    @on(MainScreen.Whole)
    def _whole(self) -> None:
        """The screen is complete; end now if somebody asked for it."""
        self._is_whole = True
        if self._status is not None:
            self.end(self._status)

    async def action_quit(self) -> None:
        """End the program."""
        self.end(0)

    def _complain(self) -> None:
        """Report problems in the preferences."""
        for problem in [*self._problems, *key_problems(self.preferences.keys)]:
            self.notify(one_line(problem), severity="warning", markup=False, timeout=10)

    def on_notify(self, event: Notify) -> None:
        """A new information replaces the older messages."""
        if event.notification.severity == "information":
            self.clear_notifications()
            # Textual would leave empty space in their place.
            self.screen.query("ToastHolder").remove()

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """The heat map's look, as variables of the theme."""
        marks = self.preferences.marks or "NO_COLOR" in os.environ
        return {
            "heat-map": self.preferences.heat_map,
            "heat-marks": "true" if marks else "false",
        }

    def _theme_chosen(self, theme: str) -> None:
        if theme != self.preferences.theme:
            self.prefer(theme=theme)

    def prefer(self, **changes: Any) -> None:
        """Apply and save choices. A mapping replaces the whole old one."""
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
        """Show or hide the list of keys at the side."""
        if self.screen.query("HelpPanel"):
            self.action_hide_help_panel()
        elif getattr(self.screen, "is_shown", True):
            self.action_show_help_panel()

    async def run_action(
        self,
        action: str | actions.ActionParseResult,
        default_namespace: DOMNode | None = None,
        namespaces: Mapping[str, DOMNode] | None = None,
    ) -> bool:
        """Run an action, or say why it is not possible now.

        If it raises, a message says so and the program continues.
        """
        if self._is_leaving:  # a screen opened now would get no widgets
            return True
        try:
            if refused := self._refusal(action, default_namespace):
                timeout = 10 if refused.severity == "error" else None
                self.notify(
                    one_line(refused.reason),
                    severity=refused.severity,
                    markup=False,
                    timeout=timeout,
                )
                return True
            return await super().run_action(action, default_namespace, namespaces)
        except Exception as error:
            if self.is_headless:  # a test must see it
                raise
            said = f"That key failed ({type(error).__name__}: {error}). Your text is safe."
            self.notify(one_line(said), severity="error", markup=False, timeout=10)
            return True

    def _refusal(
        self, action: str | actions.ActionParseResult, default_namespace: DOMNode | None
    ) -> Refusal | None:
        """The reason against an action now; None if it is possible or has no entry in the table."""
        place, name, parameters = actions.parse(action) if isinstance(action, str) else action
        target = {"screen": self.screen, "app": self}.get(place, default_namespace)
        if isinstance(target, SessionScreen | TokenView | Prompt):
            return target.refusal(name, parameters)
        return None

    def action_command_palette(self) -> None:
        """Show all commands in a list."""
        from tui.screens.dialog import Palette

        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))

    def search_themes(self) -> None:
        """Show all themes in a list."""
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
            self.notify(one_line(f"Wrote {path}"), markup=False)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The commands of the palette: Textual's own and the actions of the keys."""
        for command in super().get_system_commands(screen):
            if command.title != "Screenshot":
                yield command
        if not self.is_web:  # in a browser the file would be on the wrong machine
            yield SystemCommand(
                "Screenshot", "Save a picture of the screen as an SVG file", self.action_picture
            )
        if isinstance(screen, MainScreen):
            yield from self._actions(screen)

    def _actions(self, screen: MainScreen) -> Iterable[SystemCommand]:
        """The actions of the keys; the help of an impossible one is the reason."""
        owners = {"everywhere": screen, "in the text": screen.view}
        for key in KEYS:
            if owner := owners.get(key.place):
                refused = self._refusal(key.action, owner)
                where = " in the text" if owner is screen.view else ""
                yield SystemCommand(
                    key.description[:1].upper() + key.description[1:],
                    f"Not now. {refused.reason}" if refused else f"key {key.keys}{where}",
                    partial(owner.run_action, key.action),
                )
