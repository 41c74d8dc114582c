"""The text, in which a reader looks at tokens and selects them; it knows no document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import BindingType
from textual.message import Message
from textual.reactive import reactive

from tui.document import Node
from tui.heat import FORKS
from tui.widgets.text_keys import TEXT_KEYS
from tui.widgets.token_text import TokenText


class TokenView(TokenText, can_focus=True):
    """Keys and the mouse move from token to token."""

    BINDINGS: ClassVar[list[BindingType]] = TEXT_KEYS

    selected: reactive[int | None] = reactive(None)
    """Index of the token that the reader looks at; None is the newest one."""
    far_end: reactive[int | None] = reactive(None)
    """The other end of what is selected, where more than one token is."""

    ALLOW_SELECT = False  # Textual's selection is of cells, ours is of tokens

    class Selected(Message):
        """Another token is looked at."""

    @property
    def index(self) -> int | None:
        """The token looked at; None where there is no token."""
        if not self._rows.first_row:
            return None
        last = len(self._rows.first_row) - 1
        return last if self.selected is None else min(self.selected, last)

    @property
    def selection(self) -> range:
        """The selected tokens, where more than the one looked at is."""
        if self.far_end is None or self.index is None:
            return range(0)
        first, last = sorted((self.far_end, self.index))
        return range(first, last + 1)

    def show(self, nodes: Sequence[Node]) -> None:
        """Show another text, or the same one after a cut. The sequence is read, not copied."""
        self._tokens = nodes
        self.selected = self.far_end = None
        self._wrap()

    def watch_selected(self, before: int | None, after: int | None) -> None:
        """Draw it, and what is selected with it, and tell the screen."""
        last = len(self._rows.first_row) - 1
        ends = [last if index is None else index for index in (before, after)]
        self._forget_between(*ends, whole=self.far_end is not None)
        self.post_message(self.Selected())

    def watch_far_end(self, before: int | None, after: int | None) -> None:
        """What was selected is it no more."""
        if self.index is not None:
            for end in (before, after):
                if end is not None:
                    self._forget_between(end, self.index, whole=True)

    def _forget_between(self, a: int, b: int, *, whole: bool) -> None:
        """Draw two tokens anew, and where it is asked for all between them."""
        rows = self._rows_of(min(a, b)), self._rows_of(max(a, b))
        if whole and rows[0] and rows[1]:
            self._forget(range(rows[0].start, rows[1].stop))
        else:
            self._forget([*rows[0], *rows[1]])

    def action_extend(self, action: str) -> None:
        """Move as that action does, and select what lies between."""
        if self.index is None:
            return
        kept = self.index if self.far_end is None else self.far_end
        name, _, argument = action.partition("(")
        getattr(self, f"action_{name}")(*([int(argument[:-1])] if argument else []))
        self.far_end = kept

    def action_select(self, index: int) -> None:
        """Look at a token, and select no other."""
        self.far_end = None
        if not self._rows.first_row:
            return
        last = len(self._rows.first_row) - 1
        self.selected = max(0, min(index, last))
        row = self._row_of(self.selected)
        top = self.scroll_offset.y
        if not top <= row < top + self.size.height:
            self.scroll_to(y=row if row < top else row - self.size.height + 1, animate=False)

    def action_colours(self) -> None:
        """Colour by the next kind of number."""
        self._scale = self._scales[(self._scales.index(self._scale) + 1) % len(self._scales)]
        self._repaint()

    def action_fork(self, kind: str, by: int) -> None:
        """Look at the next, or last, token of this kind of FORKS."""
        if self.index is None:
            return
        last = len(self._rows.first_row)
        places = range(self.index + 1, last) if by > 0 else range(self.index - 1, -1, -1)
        found = next((i for i in places if FORKS[kind](self._tokens[i].step)), None)
        if found is None:
            where = "behind" if by > 0 else "before"
            self.notify(f"no token {where} this one where {kind}", markup=False)
        else:
            self.action_select(found)

    def action_newest(self) -> None:
        """Look at the end of the text and follow it."""
        self.selected = self.far_end = None
        self.scroll_end(animate=False)

    def action_move(self, by: int) -> None:
        """Look at another token, counted from this one."""
        if self.index is not None:
            self.action_select(self.index + by)

    def action_move_row(self, by: int) -> None:
        """Look at the token above or below."""
        if self.index is None:
            return
        row = self._row_of(self.index)
        column = 0
        for index, text in self._rows[row]:
            if index == self.index:
                break
            column += cell_len(text)
        target = max(0, min(row + by, len(self._rows) - 1))
        found = self._token_at(target, column)
        if found is not None:
            self.action_select(found)

    def _token_at(self, row: int, column: int) -> int | None:
        if not 0 <= row < len(self._rows) or not (pieces := self._rows[row]):
            return None
        for index, text in pieces:
            column -= cell_len(text)
            if column < 0:
                return index
        return pieces[-1][0]

    def _under(self, event: events.MouseEvent) -> int | None:
        offset = event.get_content_offset_capture(self)
        return self._token_at(offset.y + self.scroll_offset.y, offset.x)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Look at the token under the mouse."""
        if event.get_content_offset(self) is None:
            return  # the frame or the scroll bar
        found = self._under(event)
        if found is not None:
            self.action_select(found)
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Select what the mouse is drawn over."""
        if self.app.mouse_captured is not self or event.button != 1 or self.index is None:
            return
        found = self._under(event)
        if found is not None and found != self.index:
            kept = self.index if self.far_end is None else self.far_end
            self.action_select(found)
            self.far_end = kept

    def on_mouse_up(self) -> None:
        """The mouse may go elsewhere."""
        self.release_mouse()
