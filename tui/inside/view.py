"""A view of the inside: rows of cells about a place; asks no model, but says what to ask."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from textwrap import wrap
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from gpt.sanitize import one_line
from tui.colour import legible
from tui.heat import Scale
from tui.inside.place import Answers, Place, Question
from tui.inside.sheet import Looks, Row, Sheet
from tui.labels import fit, fit_hints
from tui.palette import Palette

FIRST = "First token: no layer has seen anything before it. → selects the next one."
_BORDER = 6
"""Cells of the upper border that are no title."""
_LEAST_ROWS = 3
"""Rows that a sheet keeps above a reason."""
_PARTS = ("faint", "more", "less", "top", "here")


class InsideView(Widget, can_focus=True):
    """Base of all views. A subclass has a table of keys, questions, and a sheet."""

    NAME: ClassVar[str]
    """On its tab: a word."""
    TITLE: ClassVar[str]
    """What it shows; the field's term."""
    OF: ClassVar[str] = ""
    """Attribute of the place that says whose numbers it shows; empty: its rows say it."""
    HELP: ClassVar[str] = ""
    """What its most important keys do, for its border."""
    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"inside--{name}" for name in _PARTS}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pagedown", "scroll(1)", "page down", show=False, id="look.page_down"),
        Binding("pageup", "scroll(-1)", "page up", show=False, id="look.page_up"),
    ]

    DEFAULT_CSS = """
    InsideView {
        height: 1fr;
        border: round $primary;
        border-title-color: $text;
        border-subtitle-color: $text-muted;
        border-title-background: $background;
        border-subtitle-background: $background;
        padding: 0 1;
        background: $background;

        & > .inside--faint { color: $text-muted; }
        & > .inside--more { color: $primary; }
        & > .inside--less { color: $error; }
        & > .inside--top { color: $text-accent; text-style: bold; }
        & > .inside--here {
            background: $block-cursor-background;
            color: $block-cursor-foreground;
            text-style: bold;
        }
    }
    """

    class Chose(Message):
        """Another part of the network is chosen, or another token."""

        def __init__(self, place: Place) -> None:
            super().__init__()
            self.place = place

    class Changed(Message):
        """Something else is shown of the same place; it may have to be asked."""

    def __init__(self, answers: Answers) -> None:
        super().__init__()
        self.answers = answers
        self.place: Place | None = None
        self.message = ""
        """Why something was not answered; shown below the rows, or in their place."""
        self._sheet = Sheet()
        self._said, self._top = "", 0
        """First row of the body that is shown."""
        self._is_filled = False
        """It has shown an answer; it stays until there is another one."""
        self._looks: Looks | None = None
        self._palette: Palette | None = None

    # What a subclass says.

    def questions(self, place: Place) -> Iterable[Question]:
        """What must be answered for this place, the most important first."""
        raise NotImplementedError

    def sheet(self, place: Place, looks: Looks) -> Sheet | None:
        """The rows; None until the answers are there."""
        raise NotImplementedError

    def scale(self, place: Place) -> Scale | None:
        """How the text is coloured; None: as usual, or not known yet."""
        del place
        return None

    def step(self, place: Place, by: int) -> Place:
        """The place that the keys for another layer lead to."""
        return replace(place, layer=max(1, min(place.config.n_layer, place.block + by)))

    def clicked(self, place: Place, x: int, row: int) -> None:
        """The mouse was pressed on a cell; row: index in the body, or below 0 in the head."""

    # What the screen does with it.

    def show(self, place: Place) -> None:
        """Show another place as soon as its answers are there."""
        if self.place is None or self.place.index != place.index:
            self._top = 0
        self.place = place
        self.redraw()

    def redraw(self) -> None:
        """Draw again, for an answer has come."""
        self._looks = None
        self._say_title()
        self.refresh()

    def _say_title(self) -> None:
        """The title; before it, which rows are shown if that is not all."""
        n, room = len(self._sheet.body), self._room()
        shown = f"rows {self._top + 1}–{min(n, self._top + room)} of {n} · "
        rows = shown if 0 < room < n else ""
        title = one_line(rows + self._whole_title())
        if cell_len(title) > self.size.width - _BORDER:  # without what explains the name
            title = title.replace(self.TITLE, self.TITLE.partition(":")[0])
        self.border_title = Content(title)

    @property
    def title(self) -> str:
        """For the border."""
        return self.TITLE

    def _whole_title(self) -> str:
        """The title; if something is changed inside, also of which network the numbers are."""
        words = getattr(self.place, self.OF) if self.place is not None and self.OF else ""
        if not words:
            return self.title
        what, dot, rest = self.title.partition(" · ")
        return f"{what}, {words}{dot}{rest}"

    def changed(self) -> None:
        """Something else must be shown or asked."""
        self.redraw()
        self.post_message(self.Changed())

    def choose(self, **changes: Any) -> None:
        """Choose another layer, head or token."""
        if self.place is not None:
            self.post_message(self.Chose(replace(self.place, **changes)))

    # Drawing.

    def tell(self, said: str) -> None:
        """Say something in the lower border; with nothing to say, the keys that fit there."""
        self._said = said
        self.border_subtitle = Content(one_line(said) or fit_hints(self.HELP, self.size.width - 6))

    def on_resize(self) -> None:
        """Say as much as fits now."""
        self.tell(self._said)
        self._say_title()

    def on_mount(self) -> None:
        """Take the colours from the theme, now and whenever it changes."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self._recolour())

    def _recolour(self) -> None:
        self._palette = None
        self.redraw()

    def looks(self) -> Looks:
        """Size and colours of now."""
        if self._palette is None:
            self._palette = Palette(self.app.theme_variables)
        styles = {
            name: legible(self.get_component_rich_style(f"inside--{name}")) for name in _PARTS
        }
        width, height = self.content_size
        return Looks(width, height, self.rich_style, palette=self._palette, **styles)

    def render_lines(self, crop: Region) -> list[Strip]:
        """Rows with their frame; a sheet of another size or theme is drawn again."""
        looks = self.looks()
        if looks != self._looks:
            self._looks = looks
            found = self._made(looks)
            if found is not None:
                self._sheet = found
            self._fit()
        return super().render_lines(crop)

    def _made(self, looks: Looks) -> Sheet | None:
        if self.place is None:
            return None
        said = self.message if self.place.index else FIRST
        lines = wrap(one_line(said), max(1, looks.width))
        rows = [[Segment(fit(line, looks.width), looks.faint)] for line in lines]
        found = self.sheet(self.place, looks) if self.place.index else None
        if found is not None:
            room = looks.height - len(found.head) - _LEAST_ROWS
            found.foot = (rows + found.foot)[: max(len(rows), room)] if rows else found.foot
            self._is_filled = True
        elif rows:
            return Sheet(rows)
        elif not self._is_filled:
            return Sheet([[Segment(fit("Asking the model…", looks.width), looks.faint)]])
        return found

    def _room(self) -> int:
        """Rows of the body that are shown at once."""
        sheet = self._sheet
        return max(0, self.content_size.height - len(sheet.head) - len(sheet.foot))

    def _fit(self) -> None:
        """Show the row that must be visible."""
        sheet, room = self._sheet, self._room()
        self.call_after_refresh(self._say_title)
        self._top = max(0, min(self._top, len(sheet.body) - room))
        if sheet.at is not None and room:
            self._top = max(sheet.at - room + 1, min(self._top, sheet.at))

    def render_line(self, y: int) -> Strip:
        """One row of the view."""
        row, plain, sheet = self._row(y), self.rich_style, self._sheet
        if y < len(sheet.side):
            gap = max(0, sheet.side_at - sum(segment.cell_length for segment in row))
            row = [*row, Segment(" " * gap, plain), *sheet.side[y]]
        return Strip(row).adjust_cell_length(self.content_size.width, plain)

    def _row(self, y: int) -> Row:
        sheet, room = self._sheet, self._room()
        if y < len(sheet.head):
            return sheet.head[y]
        shown = min(room, len(sheet.body))
        if y < len(sheet.head) + shown:
            return sheet.body[self._top + y - len(sheet.head)]
        place = y - len(sheet.head) - shown
        return sheet.foot[place] if place < len(sheet.foot) else []

    # Keys and mouse.

    def action_scroll(self, by: int) -> None:
        """Scroll by a page."""
        self._scroll(by * max(1, self._room() - 1))

    def _scroll(self, rows: int) -> None:
        last = max(0, len(self._sheet.body) - self._room())
        self._top = max(0, min(last, self._top + rows))
        self.refresh()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll down."""
        event.stop()
        self._scroll(3)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll up."""
        event.stop()
        self._scroll(-3)

    def on_click(self, event: events.Click) -> None:
        """Choose what is under the mouse."""
        place = event.get_content_offset(self)
        if place is None or self.place is None:
            return
        row = place.y - len(self._sheet.head)
        if row < min(self._room(), len(self._sheet.body)):
            self.clicked(self.place, place.x, row + self._top if row >= 0 else row)
