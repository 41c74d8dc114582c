"""A reader's way through the text, by keys and by the mouse; it knows no document."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import BindingType

from tui.heat import FORKS
from tui.widgets.text_keys import TEXT_KEYS
from tui.widgets.token_text import TokenText


class TokenView(TokenText, can_focus=True):
    """The text, in which one moves from token to token."""

    BINDINGS: ClassVar[list[BindingType]] = TEXT_KEYS

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
