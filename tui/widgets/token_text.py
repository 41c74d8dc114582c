"""Draws the text: tokens coloured by a number, some selected; no keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.segment import Segment
from rich.style import Style
from textual.cache import LRUCache
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.style import Style as ContentStyle
from textual.timer import Timer

from gpt.sanitize import one_line
from tui.document import Node
from tui.heat import SCALES, Scale, titled
from tui.node import is_seam as is_seam_at
from tui.palette import Palette
from tui.widgets import token_row
from tui.wrap import Rows

NEXT_COLOURS = ContentStyle.from_meta({"@click": "colours"})
"""A click on the legend acts like the key that changes the colouring."""
FRAME = 0.04
"""Seconds between two frames of a growing text: a new row moves all others."""
_BORDER = 6
"""Cells of the upper border that are no title."""
_NARROWEST = 2
"""Cells of a row at least: the widest letter has two."""
STRIPS = 2000
"""Most drawn rows in the cache; the least recently shown ones are dropped first."""
Forks = Callable[[int], bool]
"""Whether the tree has another continuation at this index of the text."""


class TokenText(ScrollView):
    """Draws only the rows that are on the screen, so a long text costs no more than a short one."""

    selected: reactive[int | None] = reactive(None)
    """Index of the selected token; None for the newest one."""
    far_end: reactive[int | None] = reactive(None)
    """The other end of the selection, if it has several tokens."""
    boxes: reactive[bool] = reactive(False, init=False)
    """Draw each token as a box, with signs for its spaces and line breaks."""
    branch: reactive[str] = reactive("", init=False, repaint=False)
    """Which branch this is, for the end of the title: "branch 2 of 3"."""
    caption: reactive[str] = reactive("", init=False, repaint=False)
    """What the text is, for the title; empty: the title names the usual colours as well."""

    DEFAULT_CSS = """
    TokenText {
        overflow: hidden auto;
        scrollbar-gutter: stable;
        scrollbar-size-vertical: 1;
    }
    """
    ALLOW_SELECT = False  # Textual selects cells; this view selects tokens

    class Selected(Message):
        """Another token is selected."""

    def __init__(self, **kwargs: str) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self._tokens: Sequence[Node] = []
        self._is_fork: Forks | None = None
        self._rows = Rows(_NARROWEST)
        self._strips: LRUCache[int, Strip] = LRUCache(STRIPS)
        self._palette: Palette
        self._following = True
        self._scales: Sequence[Scale] = SCALES
        self._scale = self._own_scale = SCALES[0]
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

    def show(self, nodes: Sequence[Node], forks: Forks | None = None) -> None:
        """Show another text, or the same one after a cut; keeps the sequence, not a copy.

        Of another text the end is shown.
        forks: asked for each token when its row is drawn; None keeps the previous ones.
        """
        self._following |= nodes is not self._tokens
        self._tokens = nodes
        self._is_fork = forks or self._is_fork
        self.selected = self.far_end = None
        self.use_own_scale()  # another one belongs to the old path
        self._wrap()

    def compare_with(self, nodes: Sequence[Node]) -> None:
        """Underline the tokens that another text does not have at the same place."""
        self._starts = token_row.starts(self._tokens)
        self._other = b"".join(node.step.bytes for node in nodes)
        self._repaint()

    def set_scale(self, *scales: Scale) -> None:
        """Colour by the first of these scales; the others and the usual ones come next."""
        self._scales, self._scale = (*scales, *SCALES), scales[0]
        self.recolour()

    def use_own_scale(self) -> bool:
        """Colour by the latest of the usual scales again; False if that is what it did."""
        if self._scale in SCALES:
            return False
        self._scales, self._scale = SCALES, self._own_scale
        self.recolour()
        return True

    def extend(self) -> None:
        """Show new tokens at the end of the sequence, FRAME seconds after the previous frame."""
        if self._waiting is None:
            wait = max(0.001, self._extended + FRAME - time.monotonic())
            self._waiting = self.set_timer(wait, self.catch_up)

    def catch_up(self) -> None:
        """Show new tokens at the end of the sequence now."""
        if self._waiting:
            self._waiting.stop()
        self._waiting, self._extended, before = None, time.monotonic(), self.index
        last_row = len(self._rows) - 1
        self._append(len(self._rows.first_row))
        self._forget([*self._rows.rows_of(before), *range(last_row, len(self._rows))])
        self._fit()

    def _append(self, start: int) -> None:
        """Add the tokens from this one on to the rows."""
        shown = token_row.boxed_text if self.boxes else token_row.shown_text
        append = self._rows.append
        for node in self._tokens[start:]:
            append(shown(node))

    def _wrap(self) -> None:
        self._rows = Rows(self.scrollable_size.width)
        self._append(0)
        self._strips.clear()
        self._fit()
        self.refresh()

    def _fit(self) -> None:
        self.virtual_size = Size(self.size.width, len(self._rows))
        if self._following:
            self.scroll_end(animate=False, immediate=True, force=True)

    def follow(self) -> None:
        """Show the end of the text, now and while it grows."""
        self._following = True
        self._fit()

    def _forget(self, rows: Iterable[int]) -> None:
        """Draw these rows again."""
        for row in rows:
            self._strips.discard(row)
            self.refresh_line(row)

    def redraw(self, index: int) -> None:
        """Draw a token again."""
        self._forget(self._rows.rows_of(index))

    def reveal(self, index: int) -> None:
        """Scroll as little as needed to show where a token begins."""
        row, top = self._rows.row_of(index), self.scroll_offset.y
        if not top <= row < top + self.size.height:
            y = row if row < top else row - self.size.height + 1
            self.scroll_to(y=y, animate=False, force=True)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Follow the end of the text while the reader is scrolled to it."""
        super().watch_scroll_y(old_value, new_value)
        self._following = round(new_value) >= self.max_scroll_y

    def _repaint(self) -> None:
        variables = self.app.theme_variables
        if self._other is not None:  # here an underline means a difference
            variables = {**variables, "heat-marks": "false"}
        self._palette = Palette(variables)
        self.recolour()

    def recolour(self) -> None:
        """Draw everything again, and say in the border what the colours mean."""
        self._write_title()
        self._write_legend()
        self._strips.clear()
        self.refresh()

    def _write_title(self) -> None:
        others = (self.branch, "tokens as boxes" * self.boxes)
        title = titled(self.caption, self._scale, others, self.outer_size.width - _BORDER)
        self.border_title = Content(one_line(title))

    def _write_legend(self) -> None:
        legend = self._palette.legend(self._scale, self.outer_size.width - 4, boxes=self.boxes)
        self.border_subtitle = legend.stylize(NEXT_COLOURS)

    def watch_branch(self) -> None:
        """Update the title."""
        self._write_title()

    watch_caption = watch_branch

    def watch_boxes(self) -> None:
        """Wrap again, since a box also shows bytes that are no text."""
        self._wrap()
        self.recolour()
        if self.selected is not None:
            self.reveal(self.selected)

    def on_resize(self) -> None:
        """Wrap the text again if the width has changed; keep the end in view."""
        if self._rows.width != max(_NARROWEST, self.scrollable_size.width):
            self._wrap()
            self._write_title()
            self._write_legend()
        else:
            self._fit()
        if self.selected is not None:
            self.reveal(self.selected)

    def render_line(self, y: int) -> Strip:
        """One row of the screen."""
        row = y + self.scroll_offset.y
        width = self.size.width
        is_new = self._rows.width == _NARROWEST < self.scrollable_size.width  # wrapped at no width
        if row >= len(self._rows) or is_new:
            return Strip.blank(width, self.rich_style)
        strip = self._strips.get(row)
        if strip is None:
            strip = Strip(self._draw(row)).adjust_cell_length(width, self.rich_style)
            self._strips[row] = strip
        return strip

    def _draw(self, row: int) -> Iterator[Segment]:
        index = self.index or 0
        selected = self.selection or range(index, index + 1)
        rows, is_fork, palette = self._rows, self._is_fork, self._palette
        for index, text in rows[row]:
            is_selected = index in selected
            is_visible = is_selected or self.boxes
            style = palette.selected if is_selected else self._style(index)
            is_seam = is_seam_at(self._tokens, index)
            forks = is_fork is not None and is_fork(index)
            if (forks or is_seam) and rows.letter_row(index) == row:
                letter = style + token_row.FORK
                if not is_selected:
                    letter = palette.first_letter(is_fork=forks, is_seam=is_seam)
                yield from token_row.begun(text, style, letter, is_visible=is_visible)
            else:
                yield token_row.painted(text, style, is_visible=is_visible)

    def _style(self, index: int) -> Style:
        """The style of a token that is not selected."""
        node, scale = self._tokens[index], self._scale
        box = index % 2 if self.boxes else None
        style = self._palette.style(scale.heat(node.step), node.author, scale.is_signed, box)
        if node.is_marked:
            style += token_row.MARKED
        if self._starts and token_row.differs(node.step.bytes, self._starts[index], self._other):
            style += token_row.DIFFERENT
        return style

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
        rows = self._rows.rows_of(min(a, b)), self._rows.rows_of(max(a, b))
        if whole and rows[0] and rows[1]:
            self._forget(range(rows[0].start, rows[1].stop))
        else:
            self._forget([*rows[0], *rows[1]])
