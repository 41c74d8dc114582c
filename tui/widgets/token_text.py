"""Draws the text: tokens coloured by a number, some selected; no keys."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import accumulate

from rich.segment import Segment
from rich.style import Style
from textual.cache import LRUCache
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.timer import Timer

from tui.document import Node
from tui.heat import SCALES, Palette, Scale
from tui.wrap import Rows

_MARKED = Style(underline2=True)
_DIFFERENT = Style(underline=True, bold=True)
FRAME = 0.04
"""Seconds between two frames of a growing text: a new row moves all others."""
STRIPS = 2000
"""Most drawn rows in the cache; the least recently shown ones are dropped first."""
_VISIBLE = str.maketrans({" ": "·"})


class TokenText(ScrollView):
    """Draws only the rows that are on the screen, so a long text costs no more than a short one."""

    selected: reactive[int | None] = reactive(None)
    """Index of the selected token; None for the newest one."""
    far_end: reactive[int | None] = reactive(None)
    """The other end of the selection, if it has several tokens."""

    ALLOW_SELECT = False  # Textual selects cells; this view selects tokens

    class Selected(Message):
        """Another token is selected."""

    def __init__(self, **kwargs: str) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self._tokens: Sequence[Node] = []
        self._rows = Rows(2)
        self._strips: LRUCache[int, Strip] = LRUCache(STRIPS)
        self._palette: Palette
        self._following = True
        self._scales: Sequence[Scale] = SCALES
        self._scale = SCALES[0]
        self._other: bytes | None = None
        self._starts: list[int] = []
        self._extended = 0.0
        self._waiting: Timer | None = None

    @property
    def index(self) -> int | None:
        """Index of the selected token; None if there is no text."""
        if not self._rows.first_row:
            return None
        last = len(self._rows.first_row) - 1
        return last if self.selected is None else min(self.selected, last)

    @property
    def selection(self) -> range:
        """Indices of the selected tokens if there are several; else empty."""
        if self.far_end is None or self.index is None:
            return range(0)
        first, last = sorted((self.far_end, self.index))
        return range(first, last + 1)

    def on_mount(self) -> None:
        """Take the colours from the theme, now and whenever it changes."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self._repaint())
        self._repaint()

    def show(self, nodes: Sequence[Node]) -> None:
        """Show another text, or the same one after a cut; keeps the sequence, not a copy."""
        self._tokens = nodes
        self.selected = self.far_end = None
        if self._scale not in SCALES:  # this scale belongs to the old path
            self._scales, self._scale = SCALES, SCALES[0]
            self._repaint()
        self._wrap()

    def compare_with(self, nodes: Sequence[Node]) -> None:
        """Underline the tokens that another text does not have at the same place."""
        self._starts = _starts(self._tokens)
        self._other = b"".join(node.step.bytes for node in nodes)
        self._repaint()

    def _same_as_other(self, index: int) -> bool:
        if self._other is None:
            return True
        return self._other.startswith(self._tokens[index].step.bytes, self._starts[index])

    def set_scale(self, scale: Scale) -> None:
        """Colour by this scale; the usual ones stay available."""
        self._scales, self._scale = (scale, *SCALES), scale
        self._repaint()

    def extend(self) -> None:
        """Show new tokens at the end of the sequence, FRAME seconds after the previous frame."""
        if self._waiting is None:
            wait = max(0.001, self._extended + FRAME - time.monotonic())
            self._waiting = self.set_timer(wait, self.catch_up)

    def catch_up(self) -> None:
        """Show new tokens at the end of the sequence now."""
        if self._waiting:
            self._waiting.stop()
        self._waiting, self._extended = None, time.monotonic()
        before = self.index
        last_row = len(self._rows) - 1
        for node in self._tokens[len(self._rows.first_row) :]:
            self._rows.append(shown_text(node))
        self._forget([*self._rows_of(before), *range(last_row, len(self._rows))])
        self._fit()

    def _wrap(self) -> None:
        self._rows = Rows(self.size.width)
        for node in self._tokens:
            self._rows.append(shown_text(node))
        self._strips.clear()
        self._fit()
        self.refresh()

    def _fit(self) -> None:
        self.virtual_size = Size(self.size.width, len(self._rows))
        if self._following:
            self.scroll_end(animate=False, immediate=True)

    def _forget(self, rows: Iterable[int]) -> None:
        """Draw these rows again."""
        for row in rows:
            self._strips.discard(row)
            self.refresh_line(row)

    def redraw(self, index: int) -> None:
        """Draw a token again."""
        self._forget(self._rows_of(index))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow the end of the text while the reader is scrolled to it."""
        super().watch_scroll_y(old_value, new_value)
        self._following = round(new_value) >= self.max_scroll_y

    def _repaint(self) -> None:
        variables = self.app.theme_variables
        if self._other is not None:  # here an underline means a difference
            variables = {**variables, "heat-marks": "false"}
        self._palette = Palette(variables)
        self.border_title = Content(self._scale.title)
        self.border_subtitle = self._palette.legend(self._scale)
        self._strips.clear()
        self.refresh()

    def on_resize(self) -> None:
        """Wrap the text again if the width has changed; keep the end in view."""
        if self._rows.width != max(2, self.size.width):
            self._wrap()
        else:
            self._fit()

    def render_line(self, y: int) -> Strip:
        """One row of the screen."""
        row = y + self.scroll_offset.y
        width = self.size.width
        if row >= len(self._rows):
            return Strip.blank(width, self.rich_style)
        strip = self._strips.get(row)
        if strip is None:
            strip = self._draw(row).adjust_cell_length(width, self.rich_style)
            self._strips[row] = strip
        return strip

    def _draw(self, row: int) -> Strip:
        segments = []
        for index, text in self._rows[row]:
            node = self._tokens[index]
            if index == self.index or index in self.selection:
                broken = node.step.text.endswith("\n") and text.endswith(" ")
                visible = (text[:-1] + "⏎" if broken else text).translate(_VISIBLE)
                segments.append(Segment(visible or "▏", self._palette.selected))
            else:
                style = self._palette.style(self._scale.heat(node.step), node.is_prompt)
                if node.is_marked:
                    style += _MARKED
                if not self._same_as_other(index):
                    style += _DIFFERENT
                segments.append(Segment(text, style))
        return Strip(segments)

    def watch_selected(self, before: int | None, after: int | None) -> None:
        """Draw the old and the new selection, and tell the screen."""
        last = len(self._rows.first_row) - 1
        ends = [last if index is None else index for index in (before, after)]
        self._forget_between(*ends, whole=self.far_end is not None)
        self.post_message(self.Selected())

    def watch_far_end(self, before: int | None, after: int | None) -> None:
        """Draw the old and the new selection."""
        if self.index is not None:
            for end in (before, after):
                if end is not None:
                    self._forget_between(end, self.index, whole=True)

    def _forget_between(self, a: int, b: int, *, whole: bool) -> None:
        """Draw two tokens again; whole: also all tokens between them."""
        rows = self._rows_of(min(a, b)), self._rows_of(max(a, b))
        if whole and rows[0] and rows[1]:
            self._forget(range(rows[0].start, rows[1].stop))
        else:
            self._forget([*rows[0], *rows[1]])

    def _row_of(self, index: int | None) -> int:
        if index is None or not 0 <= index < len(self._rows.first_row):
            return 0
        return self._rows.first_row[index]

    def _rows_of(self, index: int | None) -> range:
        """The rows of a token; None has no rows."""
        if index is None:
            return range(0)
        after = index + 1 < len(self._rows.first_row)
        return range(
            self._row_of(index), (self._row_of(index + 1) if after else len(self._rows)) + 1
        )


def _starts(nodes: Sequence[Node]) -> list[int]:
    """Byte offset of each token in the text."""
    return list(accumulate((len(node.step.bytes) for node in nodes), initial=0))


def shown_text(node: Node) -> str:
    """The text of a token, or its id if it has no text."""
    return node.step.text if node.step.bytes else f"<{node.step.token_id}>"
