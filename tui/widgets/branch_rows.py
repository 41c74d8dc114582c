"""Draws the branches as a list of rows with a cursor; no document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from gpt.sanitize import one_line
from tui.changes import said
from tui.document import Node
from tui.labels import fit, fit_end
from tui.outline import Row

_LEAST = 8
"""Cells that are always left for the text of a row; deeper rows lose guides first."""
_PART = 4
"""The beginning of a row's first word, before the fork, has at most one of so many parts of it."""
_ROOMY = 48
"""Cells beside a text from which on its numbers are said in words."""


class BranchRows(ScrollView, can_focus=True):
    """One line for each row: guides, star, name or first words, what was changed inside the
    network, number of tokens, surprisal."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"rows--cursor", "rows--faint", "rows--star"}
    DEFAULT_CSS = """
    BranchRows {
        height: 1fr;
        scrollbar-size-vertical: 1;
        overflow: hidden auto;
        & > .rows--cursor {
            background: $block-cursor-blurred-background;
            color: $block-cursor-blurred-foreground;
        }
        &:focus > .rows--cursor {
            background: $block-cursor-background;
            color: $block-cursor-foreground;
            text-style: bold;
        }
        & > .rows--faint { color: $foreground 60%; }
        & > .rows--star { color: $warning; text-style: bold; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "previous branch", show=False, id="branches.up"),
        Binding("down", "move(1)", "next branch", show=False, id="branches.down"),
        Binding("left", "fork", "to the fork", show=False, id="branches.fork"),
        Binding("home", "select(0)", "first branch", show=False, id="branches.first"),
        Binding("end", "select(-1)", "last branch", show=False, id="branches.last"),
        Binding("enter", "take", "go there", id="branches.take"),
    ]

    cursor: reactive[int] = reactive(0, init=False)
    """Index of the highlighted row."""

    class Moved(Message):
        """Another row is highlighted."""

    class Taken(Message):
        """The person wants to go to the highlighted row."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: Sequence[Row] = []
        self._growing: Collection[Node] = ()

    @property
    def row(self) -> Row | None:
        """The highlighted row; None without a text."""
        return self._rows[self.cursor] if self._rows else None

    def show(self, rows: Sequence[Row], here: Node | None, growing: Collection[Node] = ()) -> None:
        """Draw these rows, and highlight the one with this token.

        growing: the last tokens of branches that are being written; of those the end is shown.
        """
        self._rows, self._growing = rows, growing
        self.virtual_size = Size(self.size.width, len(rows))
        self.cursor = max(0, min(self.cursor, len(rows) - 1))
        self.point_at(here)
        self.refresh()
        self.call_after_refresh(self._to_cursor)  # how far it can scroll is known then
        self.post_message(self.Moved())

    def point_at(self, here: Node | None) -> None:
        """Highlight the row with this token."""
        if here is None or (self.row and here in self.row.nodes):
            return
        found = (i for i, row in enumerate(self._rows) if row.is_shown and here in row.nodes)
        self.cursor = next(found, self.cursor)

    def on_focus(self) -> None:
        """The keys act on a row that is in view."""
        self._to_cursor()

    def on_resize(self) -> None:
        """The rows fit every width."""
        self.virtual_size = Size(self.size.width, len(self._rows))
        self._to_cursor()

    def watch_cursor(self) -> None:
        """Draw it, keep it in view and tell the panel."""
        self.refresh()
        self._to_cursor()
        self.post_message(self.Moved())

    def _to_cursor(self) -> None:
        top, height = self.scroll_offset.y, self.size.height
        if height and not top <= self.cursor < top + height:
            y = self.cursor if self.cursor < top else self.cursor - height + 1
            self.scroll_to(y=y, animate=False)

    def action_move(self, by: int) -> None:
        """Highlight the row above (-1) or below (1)."""
        self.cursor = max(0, min(self.cursor + by, len(self._rows) - 1))

    def action_select(self, index: int) -> None:
        """Highlight the first (0) or the last (-1) row."""
        self.cursor = max(0, index % len(self._rows)) if self._rows else 0

    def action_page_up(self) -> None:
        """A page up."""
        self.action_move(-max(1, self.size.height - 1))

    def action_page_down(self) -> None:
        """A page down."""
        self.action_move(max(1, self.size.height - 1))

    def action_fork(self) -> None:
        """Highlight the row that this one continues."""
        if row := self.row:
            first = row.nodes[0]
            before = (i for i, each in enumerate(self._rows) if first in each.nodes[-1].children)
            self.cursor = next(before, self.cursor)

    def action_take(self) -> None:
        """Go to the highlighted row."""
        if self._rows:
            self.post_message(self.Taken())

    def on_click(self, event: events.Click) -> None:
        """Go to the row under the mouse."""
        index = event.y + self.scroll_offset.y
        if index < len(self._rows):
            self.cursor = index
            self.post_message(self.Taken())

    def render_line(self, y: int) -> Strip:
        """One row of the screen."""
        index, width = y + self.scroll_offset.y, self.scrollable_content_region.width
        base = self.rich_style
        if index >= len(self._rows):
            return Strip.blank(width, base)
        return Strip(self._segments(self._rows[index], width, index == self.cursor, base))

    def _segments(self, row: Row, width: int, is_here: bool, base: Style) -> list[Segment]:
        cursor = self.get_component_rich_style("rows--cursor") if is_here else Style()
        faint = self.get_component_rich_style("rows--faint", partial=True)
        star = self.get_component_rich_style("rows--star", partial=True)
        numbers = _numbers(row, width - 2 * _LEAST)
        room = width - cell_len(numbers)
        guides = row.guides[-max(0, room - _LEAST) :] if room > _LEAST else ""
        signs = "★" * row.remark.is_starred + "⚑" * row.is_marked
        signs += " " * bool(signs)
        label = f"{one_line(row.remark.name)}: " if row.remark.name else ""
        left = room - cell_len(guides) - cell_len(signs)
        word = row.word if cell_len(row.word) * _PART <= left - cell_len(label) else ""
        if row.nodes[-1] in self._growing:
            last = b"".join(node.step.added for node in row.nodes[-max(0, left) - 1 :])
            text = fit_end(label + one_line(last.decode("utf-8", "replace")), left)
            word = ""
        else:
            text = fit(label + word + row.text, left)
        named = len(label) if text.startswith(label) else 0
        begun = named + len(word)
        shown = Style(bold=row.is_shown)
        parts = [
            (guides, faint),
            (signs, star),
            (text[:named], shown + Style(italic=True)),
            (text[named:begun], faint),
            (text[begun:], shown),
            (numbers, faint),
        ]
        return [
            # The cursor's colours come last: they must be readable on its background.
            Segment(part, base + style + cursor)
            for part, style in parts
            if part
        ]


def _numbers(row: Row, room: int) -> str:
    """What was changed inside, tokens and surprisal; in a narrow row what was changed, or none."""
    of = Counter[str]()
    for changes, n in row.inside.items():
        of[said(changes)] += n
    parts = (each if n == len(row.nodes) else f"{each} for {n}" for each, n in of.items())
    changed = "".join(f"; {each}" for each in parts)[1:]
    n, is_roomy = len(row.nodes), room >= _ROOMY
    numbers = f" {n}" + f" token{'s' * (n > 1)}" * is_roomy
    if row.bits is not None:
        numbers += f" · {row.bits:.2f} bits" + " each" * is_roomy
    both = f"{changed} ·{numbers}" if changed else numbers
    ways = (both, changed, " changed inside" * bool(changed))
    return next((each for each in ways if cell_len(each) <= room), "")
