"""The field where the person writes."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import BindingType
from textual.content import Content
from textual.message import Message
from textual.strip import Strip
from textual.widgets import TextArea

from gpt.sanitize import one_for_one
from tui import possible
from tui.keys import bindings
from tui.labels import boxes
from tui.special_tokens import CLOSE, INSERTED, OPEN, inserted, plain, without_marks
from tui.widgets.field import InOrder

_AT_END = re.compile(f"{INSERTED.pattern}$")


class Prompt(InOrder, TextArea):
    """Enter sends. Ctrl+J breaks the line; so do Shift+Enter and Alt+Enter if the terminal can tell
    them from Enter."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("in the prompt")

    class Sent(Message):
        """The person wants the model to continue after this text.

        A message reaches the screen after the keys that were pressed before.
        """

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Paged(Message):
        """The person wants to see the previous (-1) or next (1) page of the text."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    class Chose(Message):
        """The person wants the previous (-1) or next (1) opening line of the welcome."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    def show_tokens(
        self, parts: Sequence[bytes], *, joins_spaces: bool = False, room: float = math.inf
    ) -> None:
        """Show the tokens of the text above it. joins_spaces, room: as for `boxes`."""
        self.border_title = boxes(parts, joins_spaces=joins_spaces, room=room)

    def say_where_letters_go(self) -> None:
        """Say it in the frame until somebody types or leaves: a moment ago letters were keys."""
        if not self.has_text:
            self.border_title = Content("Letters go here now · Tab: back to the text")

    def on_blur(self) -> None:
        """Take that back."""
        self.say_nothing()

    def say_nothing(self) -> None:
        """Leave the frame to the tokens of what is typed."""
        if not self.has_text:
            self.border_title = None

    @property
    def has_text(self) -> bool:
        """Whether the field is not empty, without joining the lines of a long text."""
        return self.document.line_count > 1 or bool(self.document.get_line(0))

    def refusal(self, action: str, parameters: possible.Parameters) -> possible.Refusal | None:
        """The screen's reason against sending now; None if it is possible."""
        ask = getattr(self.screen, "refusal", None)
        return ask(action, parameters) if ask and action == "send" else None

    def check_action(self, action: str, parameters: possible.Parameters) -> bool | None:
        """True, or None (grey) if it is not possible now; its key then says why."""
        return None if self.refusal(action, parameters) else True

    def action_send(self) -> None:
        """Send the text and empty the field."""
        text, self.text = self.text, ""
        self.post_message(self.Sent(text))

    def action_cursor_up(self, select: bool = False) -> None:
        """Move up a row; in an empty field, choose another opening line."""
        if self.has_text:
            super().action_cursor_up(select)
        else:
            self.post_message(self.Chose(-1))

    def action_cursor_down(self, select: bool = False) -> None:
        """Move down a row; in an empty field, choose another opening line."""
        if self.has_text:
            super().action_cursor_down(select)
        else:
            self.post_message(self.Chose(1))

    def action_line_break(self) -> None:
        """Insert a line break."""
        self.insert("\n")

    def action_page(self, by: int) -> None:
        """Scroll the field by a page, or the text if the whole field is visible."""
        if not self.max_scroll_y:
            self.post_message(self.Paged(by))
        elif by < 0:
            self.action_cursor_page_up()
        else:
            self.action_cursor_page_down()

    def load_text(self, text: str) -> None:
        """Replace the text; nothing in it is a special token."""
        super().load_text(without_marks(text))

    def restore(self, text: str) -> None:
        """Replace the text by one that was in this field; its special tokens stay."""
        super().load_text(text)

    def edited(self, text: str) -> None:
        """Replace the text by what an editor made of it; it may not add special tokens."""
        before, after = (Counter(INSERTED.findall(each)) for each in (self.text, text))
        if after <= before:
            self.restore(text)
        else:
            self.text = text
        self.move_cursor(self.document.end)

    def insert_special(self, name: str) -> None:
        """Insert a special token of the model at the cursor."""
        self.insert(inserted(name))

    async def on_key(self, event: events.Key) -> None:
        """Letters never become the marks of a special token."""
        if event.character in (OPEN, CLOSE):
            event.stop()
            event.prevent_default()
        else:
            await super().on_key(event)

    def action_delete_left(self) -> None:
        """Delete the selection, the special token, or the character before the cursor."""
        row, column = self.cursor_location
        before = self.document.get_line(row)[:column]
        found = _AT_END.search(before)
        if found and not self.selected_text:
            self.delete((row, found.start()), (row, column))
        else:
            super().action_delete_left()

    def get_line(self, line_index: int) -> Text:
        """A line as it is drawn: pasted text may hold control characters."""
        line = self.document.get_line(line_index)
        text = Text(one_for_one(plain(line)), end="", no_wrap=True)
        for found in INSERTED.finditer(line):
            text.stylize("reverse", *found.span())
        return text

    def render_line(self, y: int) -> Strip:
        """One row of the screen; without any width, TextArea would fail to wrap its placeholder."""
        return super().render_line(y) if self.content_size.width else Strip.blank(self.size.width)

    def on_paste(self, event: events.Paste) -> None:
        """Convert line ends of other systems: the model would see control characters."""
        event.text = without_marks(event.text).replace("\r\n", "\n").replace("\r", "\n")
