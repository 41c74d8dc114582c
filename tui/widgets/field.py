"""A field for one line of text, and the key handling of all fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import events
from textual.widget import Widget
from textual.widgets import Input
from textual.widgets.input import Selection

if TYPE_CHECKING:
    _Base = Widget
else:  # a widget inherits styles and keys only from the first of Textual's base classes
    _Base = object


class InOrder(_Base):
    """A field whose own keys act in the order in which they are pressed.

    Textual acts on a key like Backspace after the letters that came with it: "a", Backspace, "b"
    in one read would leave "a".
    """

    async def on_key(self, event: events.Key) -> None:
        """Act at once on a key that is not printable."""
        if event.is_printable:
            return
        found = self.screen.active_bindings.get(event.key)
        if not found or found.node is not self:
            return
        if await self.app.run_action(
            found.binding.action, self
        ):  # False: another widget may handle it
            event.stop()
            event.prevent_default()


class Field(InOrder, Input):
    """An Input without control characters, which would reach the terminal."""

    def on_paste(self, event: events.Paste) -> None:
        """Join the lines of a pasted text; Textual would keep only the first."""
        event.prevent_default()
        event.stop()
        self.insert_text_at_cursor(" ".join(event.text.splitlines()))

    def show(self, text: str) -> None:
        """Hold another text; in the field with the focus all of it is selected, as when one comes.

        Textual would keep the ends of the old selection, and typing would replace only a part.
        """
        self.value = text
        if self.has_focus:
            self.selection = Selection(0, len(self.value))

    def validate_value(self, value: str) -> str:
        """Keep printable characters: a pasted escape code is harmless without its first one."""
        return "".join(character for character in value if character.isprintable())
