"""A field for one line of text, and what all fields have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import events
from textual.widget import Widget
from textual.widgets import Input

if TYPE_CHECKING:
    _Base = Widget
else:  # of Textual's base classes, a widget takes styles and keys from the first one alone
    _Base = object


class InOrder(_Base):
    """A field whose own keys act in the order in which they are pressed.

    Textual acts on a key like Backspace after the letters that came with it: "a", Backspace, "b"
    in one read would leave "a".
    """

    async def on_key(self, event: events.Key) -> None:
        """Act on a key that is not a letter at once."""
        if event.is_printable:
            return
        found = self.screen.active_bindings.get(event.key)
        if not found or found.node is not self:
            return
        if await self.app.run_action(found.binding.action, self):  # not if it leaves it to others
            event.stop()
            event.prevent_default()


class Field(InOrder, Input):
    """Textual's, which would hand control characters on to the terminal."""

    def validate_value(self, value: str) -> str:
        """Only what can be shown: a pasted escape code loses its power with its first character."""
        return "".join(character for character in value if character.isprintable())
