"""The application: themes, keys, signals; no model, no text."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import actions, events, on
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.dom import DOMNode
from textual.driver import Driver
from textual.screen import Screen
from textual.widgets import Input, TextArea

from gpt.errors import UserError
from gpt.sanitize import one_line
from tui import preferences
from tui.keys import PROGRAM, written
from tui.labels import sentence
from tui.messages import Messages
from tui.possible import Refusal
from tui.preferences import Preferences
from tui.screens.main import MainScreen
from tui.screens.session_screen import PROBLEM_SECONDS, SessionScreen
from tui.terminal import outliving
from tui.widgets.prompt import Prompt
from tui.widgets.token_view import TokenView

if TYPE_CHECKING:
    from tui.commands import Command


def _commands() -> type[Provider]:
    """What the palette shows; most of it is needed only there."""
    from tui.commands import Commands

    return Commands


_NO_COLOUR = "takes the terminal's colours, and NO_COLOR forbids them"
"""Why a theme cannot be used, after its name."""


class GPTApp(Messages):
    """gpt-tui."""

    TITLE = "gpt-tui"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [key.binding for key in PROGRAM]
    COMMANDS = {_commands}  # noqa: RUF012  Textual's own declaration

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
        if self._is_unreadable(self.preferences.theme):
            seen = self.preferences.theme.replace("ansi", "textual")
            self._problems.append(f"{self.preferences.theme} {_NO_COLOUR}; this is {seen}")
            self.preferences = replace(self.preferences, theme=seen)
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
        """Save a theme when it is chosen."""
        self.theme_changed_signal.subscribe(self, lambda theme: self._theme_chosen(theme.name))

    async def run_async(self, **options: Any) -> None:
        """Run until the end or a signal; the terminal is restored in both cases."""
        loop = asyncio.get_running_loop()
        for name in ("SIGTERM", "SIGHUP", "SIGQUIT"):
            if number := getattr(signal, name, None):
                with suppress(NotImplementedError, RuntimeError):  # Windows; not the main thread
                    loop.add_signal_handler(number, partial(self.end, 128 + number))
        # Not by the loop, which would bring back Python's own handler when it closes.
        end = partial(loop.call_soon_threadsafe, self.end, 128 + signal.SIGINT)
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, lambda *_: end())
        await super().run_async(**options)

    def exit(self, *arguments: Any, **options: Any) -> None:
        """Leave. From now on Ctrl+C could only interrupt what is being saved."""
        if not self.is_headless:
            with suppress(ValueError):  # not the main thread
                signal.signal(signal.SIGINT, signal.SIG_IGN)
        super().exit(*arguments, **options)

    def end(self, status: int) -> None:
        """End with this exit status, as soon as the screen is complete; the first status stands."""
        if not self._is_whole:  # widgets that are still being mounted would fail
            self._status = status
        elif self._is_leaving or not self.screen_stack:
            return
        elif not getattr(self.screen, "is_shown", True):
            self.call_after_refresh(self.end, status)
        else:
            self._is_leaving = True
            self.exit(return_code=status)

    @on(MainScreen.Whole)
    def _whole(self) -> None:
        """The screen is complete; report problems, or end now if somebody asked for it."""
        self._is_whole = True
        self._complain()
        if self._status is not None:
            self.end(self._status)

    async def action_quit(self) -> None:
        """End the program."""
        self.end(0)

    def _complain(self) -> None:
        """Report problems in the preferences."""
        found = list(self._problems)
        if self.preferences.keys:
            from tui.window_keys import problems

            found += problems(self.preferences.keys)
        for problem in found:
            self.notify(
                one_line(problem), severity="warning", markup=False, timeout=PROBLEM_SECONDS
            )

    def get_theme_variable_defaults(self) -> dict[str, str]:
        """The heat map's look, as variables of the theme."""
        marks = self.preferences.marks or "NO_COLOR" in os.environ
        return {
            "heat-map": self.preferences.heat_map,
            "heat-marks": "true" if marks else "false",
            "heat-colours": self.console.color_system or "",
        }

    def _is_unreadable(self, theme: str) -> bool:
        """Whether everything would be black: the terminal's own colours, but none may be used."""
        return self.no_color and theme in ("ansi-dark", "ansi-light")

    def _theme_chosen(self, theme: str) -> None:
        if self._is_unreadable(theme):
            self.theme = self.preferences.theme
            self.notify(f"{theme} {_NO_COLOUR}.", severity="error", markup=False)
        elif theme != self.preferences.theme:
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
            self.notify(
                one_line(sentence(str(error))),
                severity="error",
                markup=False,
                timeout=PROBLEM_SECONDS,
            )

    def action_help_quit(self) -> None:
        """Say how to end the program: Ctrl+C had nothing to stop or to copy."""
        self.notify("Ctrl+Q quits.", markup=False)

    def get_key_display(self, binding: Binding) -> str:
        """A key as a person writes it."""
        return written(binding.key)

    async def act(self, event: events.Event) -> None:
        """Take away old messages at a key, and put a pasted text where it can be.

        If no field has the focus, that is the prompt. In a field for one line it becomes one line;
        Textual would keep only the first.
        """
        is_field = isinstance(event, events.Key | events.Paste) and isinstance(
            self.focused, Input | TextArea
        )
        if isinstance(event, events.Key) and not event.is_forwarded:
            self.forget(is_letter=is_field and event.is_printable)
        if isinstance(event, events.Paste):
            screen = self.screen
            if not is_field and isinstance(screen, MainScreen) and screen.prompt.display:
                screen.set_focus(screen.prompt)
            elif isinstance(self.focused, Input):
                line = " ".join(event.text.splitlines())
                event.text = "".join(character for character in line if character.isprintable())
        await super().act(event)

    def action_help(self, term: str = "") -> None:
        """Show the help, at a term of the glossary; without one, close it if it is open."""
        from tui.screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            if getattr(self.screen, "is_shown", True):
                self.push_screen(HelpScreen(term), self._run)
        elif term:
            self.screen.look_for(term)
        else:
            self.screen.dismiss(None)

    def _run(self, command: Command | None) -> None:
        """Run what was chosen in the help, once the help is closed."""
        if command:
            self.call_later(command.run)

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
            if refused := self.refused(action, default_namespace):
                self.refuse(refused)
                return True
            return await super().run_action(action, default_namespace, namespaces)
        except Exception as error:
            if self.is_headless:  # a test must see it
                raise
            said = f"That key failed ({type(error).__name__}: {error}). Your text is safe."
            self.notify(one_line(said), severity="error", markup=False, timeout=PROBLEM_SECONDS)
            return True

    def refused(
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

        if not any(isinstance(screen, Palette) for screen in self.screen_stack):
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
            self.notify(
                one_line(sentence(reason)), severity="error", markup=False, timeout=PROBLEM_SECONDS
            )
        else:
            self.notify(one_line(f"Wrote {path}"), markup=False)
