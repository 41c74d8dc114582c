"""What all screens over the main one have in common: they are answered once."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from textual import work
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.command import CommandPalette
from textual.css.query import NoMatches
from textual.screen import ModalScreen, Screen, ScreenResultType

HELP: list[BindingType] = [
    Binding("f1", "app.toggle_help", "help", show=False, id="dialog.help"),
]

if TYPE_CHECKING:
    _Base = Screen[Any]
else:  # of Textual's base classes, a screen takes styles and keys from the first one alone
    _Base = object


class AnsweredOnce(_Base):
    """Two keys in one read answer a screen twice; the second answer must not leave another one."""

    is_shown = False
    """Whether it has all its parts."""
    _is_answered = False

    def on_screen_resume(self) -> None:
        """The first time comes after its parts were made."""
        self.is_shown = True

    def dismiss(self, result: Any = None) -> AwaitComplete:
        """Close the help, if it is open; else leave this screen, if it is still there."""
        if self._is_answered or not self.is_current:
            return AwaitComplete()
        if not self.is_shown:  # a key that came with the one that opened it
            self.call_after_refresh(self.dismiss, result)
            return AwaitComplete()
        if result is None and self.query("HelpPanel"):
            self.app.action_hide_help_panel()
            return AwaitComplete()
        self._is_answered = True
        return super().dismiss(result)


class Page(AnsweredOnce, Screen[None]):
    """A screen of its own."""

    BINDINGS: ClassVar[list[BindingType]] = HELP


class Dialog(AnsweredOnce, ModalScreen[ScreenResultType]):
    """A screen over the one that asks."""

    BINDINGS: ClassVar[list[BindingType]] = HELP


class Palette(AnsweredOnce, CommandPalette):
    """Textual's list of commands, which goes on to fill itself after it was closed."""

    @work(exclusive=True, group=CommandPalette._GATHER_COMMANDS_GROUP)
    async def _gather_commands(self, search_value: str) -> None:
        with suppress(NoMatches):
            await CommandPalette._gather_commands.__wrapped__(self, search_value)  # type: ignore[attr-defined]
