"""Base classes of all screens above the main one: each is answered once."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.console import RenderableType
from textual import events, work
from textual._context import visible_screen_stack
from textual.await_complete import AwaitComplete
from textual.binding import Binding, BindingType
from textual.command import CommandList, CommandPalette
from textual.css.query import NoMatches
from textual.screen import ModalScreen, Screen, ScreenResultType

from tui.widgets.option_rows import OptionRows

HELP: list[BindingType] = [
    Binding("f1", "app.help", "help", show=False, id="dialog.help"),
]

STYLES = Path(__file__).with_name("dialogs.tcss")
"""Read when the first of these screens opens, so that the first frame does not wait for it."""

if TYPE_CHECKING:
    _Base = Screen[Any]
else:  # a screen inherits styles and keys only from the first of Textual's base classes
    _Base = object


class Sized(_Base):
    """A screen that ignores what belongs to a size of the terminal that is gone; drawn only once.

    A screen of Textual sends itself its new size while it is drawn. With two sizes on the way, each
    would call for the other for ever. And while it draws what is below a window, it may forget how
    far it has come, and draw two windows inside each other for ever.
    """

    def render(self) -> RenderableType:
        """The background: of the screens that are still to be drawn, only those below this one."""
        with suppress(LookupError):  # nothing is below it
            stack, waiting = self.app.screen_stack, visible_screen_stack.get()
            below = stack[: stack.index(self)] if self in stack else []
            waiting[:] = [screen for screen in waiting if screen in below]
        return super().render()

    async def on_event(self, event: events.Event) -> None:
        """Drop an outdated size, and a click at a place that is no longer there."""
        if isinstance(event, events.Resize):
            is_gone = event.size != self.app.size
        else:
            is_gone = isinstance(event, events.MouseEvent) and (
                not self.app.size.region.contains_point(event.screen_offset)
            )
        if not is_gone:
            await super().on_event(event)


class AnsweredOnce(Sized):
    """Two keys that arrive together may answer twice; the second answer must have no effect."""

    is_shown = False
    """All widgets are mounted."""
    _is_answered = False

    def on_screen_resume(self) -> None:
        """Textual calls this first after all widgets are mounted."""
        self.is_shown = True

    def dismiss(self, result: Any = None) -> AwaitComplete:
        """Close this screen if it is still open."""
        if self._is_answered or not self.is_current:
            return AwaitComplete()
        if not self.is_shown:  # a key that arrived with the one that opened the screen
            self.call_after_refresh(self._dismiss_when_shown, result)
            return AwaitComplete()
        self._is_answered = True
        return super().dismiss(result)

    def _dismiss_when_shown(self, result: Any) -> None:
        # A screen that waited for its own end would wait for ever.
        self.dismiss(result)


class Page(AnsweredOnce, Screen[None]):
    """A full screen."""

    CSS_PATH = STYLES
    BINDINGS: ClassVar[list[BindingType]] = HELP

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Hide keys of the text whose actions only the main screen has."""
        return any(hasattr(self, f"{kind}action_{action}") for kind in ("", "_"))


class Dialog(AnsweredOnce, ModalScreen[ScreenResultType]):
    """A screen that leaves the main one visible."""

    CSS_PATH = STYLES
    BINDINGS: ClassVar[list[BindingType]] = HELP


class _Commands(CommandList, OptionRows):
    """The rows of the palette."""


class Palette(AnsweredOnce, CommandPalette):
    """Textual's list of commands, which would fail if it is closed while it fills itself."""

    BINDINGS: ClassVar[list[BindingType]] = HELP

    def on_mount(self) -> None:
        """Let the rows ignore late clicks: the palette makes them itself, always of its class."""
        for rows in self.query(CommandList):  # none if it is closed at once
            rows.__class__ = _Commands

    @work(exclusive=True, group=CommandPalette._GATHER_COMMANDS_GROUP)
    async def _gather_commands(self, search_value: str) -> None:
        with suppress(NoMatches):
            await CommandPalette._gather_commands.__wrapped__(self, search_value)  # type: ignore[attr-defined]
