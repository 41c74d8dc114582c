"""Where the person writes."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widgets import TextArea

from gpt.sanitize import one_for_one
from tui.widgets.field import InOrder


class Prompt(InOrder, TextArea):
    """Enter sends. Shift+Enter or Alt+Enter breaks the line where the terminal can tell them
    from Enter, Ctrl+J everywhere."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "send", "send", id="prompt.send"),
        Binding(
            "ctrl+j,shift+enter,alt+enter",
            "line_break",
            "line break",
            key_display="^j",
            id="prompt.line_break",
        ),
        Binding("pageup", "page(-1)", "page up", show=False, id="prompt.page_up"),
        Binding("pagedown", "page(1)", "page down", show=False, id="prompt.page_down"),
    ]

    class Sent(Message):
        """The person wants the model to go on from this text."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    class Paged(Message):
        """The person wants to see the page of the text above (-1), or below (1)."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    def action_send(self) -> None:
        """Hand the text over; the field is empty again."""
        text, self.text = self.text, ""
        self.post_message(self.Sent(text))

    def action_line_break(self) -> None:
        """A line break in the text."""
        self.insert("\n")

    def action_page(self, by: int) -> None:
        """A page of what is written here; where all of it is in view, of the text."""
        if not self.max_scroll_y:
            self.post_message(self.Paged(by))
        elif by < 0:
            self.action_cursor_page_up()
        else:
            self.action_cursor_page_down()

    def get_line(self, line_index: int) -> Text:
        """A line as it is drawn: what was pasted may hold anything."""
        text = one_for_one(self.document.get_line(line_index))
        return Text(text, end="", no_wrap=True)

    def render_line(self, y: int) -> Strip:
        """One row; where there is no room at all, TextArea would fail to break its hint."""
        return super().render_line(y) if self.content_size.width else Strip.blank(self.size.width)

    def on_paste(self, event: events.Paste) -> None:
        """The line ends of other systems would reach the model as control characters."""
        event.text = event.text.replace("\r\n", "\n").replace("\r", "\n")
