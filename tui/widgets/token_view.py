"""Moves through the text by keys and by mouse; no document."""

from __future__ import annotations

from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.geometry import Offset
from textual.message import Message

from tui import possible
from tui.heat import FORKS, SCALES
from tui.keys import bindings
from tui.widgets.token_text import TokenText

_KEYS_WITHOUT_TEXT = {"space", "full_stop", "comma", "question_mark"}
"""Keys that show something although there is no text."""


class TokenView(TokenText, can_focus=True):
    """The text, with a cursor that moves from token to token."""

    BINDINGS: ClassVar[list[BindingType]] = bindings("in the text")

    letters_begin = True
    """Whether a letter begins a text if there is none; else it is a key: z may bring one back."""
    _surprise = 0
    """How many tokens are more surprising than the one that was last gone to for its surprise."""

    class Typed(Message):
        """A letter was typed where there is no text."""

        def __init__(self, letter: str) -> None:
            super().__init__()
            self.letter = letter

    class SelectionEnded(Message):
        """The mouse has selected several tokens."""

    def refusal(self, action: str, parameters: possible.Parameters) -> possible.Refusal | None:
        """The reason against an action now; None if it is possible."""
        return possible.refusal(action, parameters, possible.Situation(index=self.index))

    def check_action(self, action: str, parameters: possible.Parameters) -> bool | None:
        """True, or None (grey) if it is not possible now; its key then says why."""
        return None if self.refusal(action, parameters) else True

    def action_extend(self, action: str) -> None:
        """Move like that action, and select everything between."""
        if self.index is None:
            return
        kept = self.index if self.far_end is None else self.far_end
        name, _, argument = action.partition("(")
        getattr(self, f"action_{name}")(*([int(argument[:-1])] if argument else []))
        self.far_end = kept

    def action_select(self, index: int) -> None:
        """Select one token and scroll to it."""
        self.far_end = None
        if not self._rows.first_row:
            return
        last = len(self._rows.first_row) - 1
        self.selected = max(0, min(index, last))
        self.reveal(self.selected)

    def action_colours(self) -> None:
        """Colour by the next scale."""
        self._scale = self._scales[(self._scales.index(self._scale) + 1) % len(self._scales)]
        if self._scale in SCALES:
            self._own_scale = self._scale
        self.recolour()

    def action_boxes(self) -> None:
        """Show how the tokenizer cut the text, or the plain text again."""
        self.boxes = not self.boxes

    def action_fork(self, kind: str, by: int) -> None:
        """Select the next (1) or previous (-1) token of this kind of FORKS."""
        if self.index is None:
            return
        last = len(self._rows.first_row)
        places = range(self.index + 1, last) if by > 0 else range(self.index - 1, -1, -1)
        found = next((i for i in places if FORKS[kind](self._tokens[i].step)), None)
        if found is None:
            where = "after" if by > 0 else "before"
            self.notify(f"No {kind} {where} this one.", markup=False)
        else:
            self.action_select(found)

    def action_most_surprising(self) -> None:
        """Select the token with the lowest probability; from there, the one with the next."""
        known = ((token.step.logprob, i) for i, token in enumerate(self._tokens))
        order = [i for logprob, i in sorted((p, i) for p, i in known if p is not None)]
        if not order:
            self.notify("No token has a probability.", markup=False)
            return
        here = self._surprise
        again = here < len(order) and order[here] == self.index
        self._surprise = (here + 1) % len(order) if again else 0
        self.action_select(order[self._surprise])
        self.notify(f"Most surprising: {self._surprise + 1} of {len(order)}", markup=False)

    def cell_of(self, index: int) -> Offset:
        """Where a token begins, or its row if that is not in view; from the widget's corner."""
        row = self._rows.row_of(index) - self.scroll_offset.y
        inside = Offset(self._rows.column_of(index), max(0, min(row, self.size.height - 1)))
        return inside + Offset(*self.gutter.top_left)

    def action_newest(self) -> None:
        """Select the newest token and follow the end of the text."""
        self.selected = self.far_end = None
        self.follow()

    def action_move(self, by: int) -> None:
        """Move the cursor by so many tokens."""
        if self.index is not None:
            self.action_select(self.index + by)

    def action_move_row(self, by: int) -> None:
        """Move the cursor to the row above (-1) or below (1)."""
        if self.index is None:
            return
        rows = self._rows
        target = max(0, min(rows.row_of(self.index) + by, len(rows) - 1))
        found = rows.token_at(target, rows.column_of(self.index))
        if found is not None:
            self.action_select(found)

    def on_key(self, event: events.Key) -> None:
        """A letter begins a text if there is none: it is more likely meant so than as a key."""
        is_letter = event.is_printable and event.key not in _KEYS_WITHOUT_TEXT
        if self.index is None and self.letters_begin and is_letter:
            event.stop()
            event.prevent_default()
            self.post_message(self.Typed(event.character or ""))

    def _under(self, event: events.MouseEvent) -> int | None:
        offset = event.get_content_offset_capture(self)
        return self._rows.token_at(offset.y + self.scroll_offset.y, offset.x)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Select the token under the mouse."""
        if event.get_content_offset(self) is None:
            return  # the frame or the scroll bar
        found = self._under(event)
        if found is not None:
            self.action_select(found)
            self.capture_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Extend the selection to the token under the mouse."""
        if self.app.mouse_captured is not self or event.button != 1 or self.index is None:
            return
        found = self._under(event)
        if found is not None and found != self.index:
            kept = self.index if self.far_end is None else self.far_end
            self.action_select(found)
            self.far_end = kept

    def on_mouse_up(self) -> None:
        """End the selection."""
        if self.app.mouse_captured is self and self.selection:
            self.post_message(self.SelectionEnded())
        self.release_mouse()
