"""All keys by group, over the lower part of the screen; the next key acts.

If they do not fit, they stand in a column that ↑ and ↓ scroll.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

from rich.cells import cell_len
from textual import events
from textual.content import Content
from textual.widgets import Static

from tui.commands import Command, by_group
from tui.keys import written_together

SHOWS = "screen.all_keys"
"""The action whose key shows the panel, and hides it again."""
_GAP = 2
_HEADING = "bold $text-primary"
_KEY = "bold $foreground"
_ALIGNED = 10
"""Widest keys that the words next to them are aligned to."""

Part = tuple[str, str, Command | None]
"""Text, its style, and the command that a click on it runs."""


@dataclass(frozen=True)
class Cell:
    """Keys that belong together and what they do, or the heading of a group."""

    keys: tuple[Part, ...]
    words: Part

    @property
    def keys_width(self) -> int:
        """Width of the keys in cells."""
        return sum(cell_len(text) for text, _, _ in self.keys)

    def parts(self, keys_width: int = 0) -> list[Part]:
        """What is drawn; the words begin after at least so many cells."""
        gap = max(1, keys_width - self.keys_width + 1) if self.keys else 0
        return [*self.keys, (" " * gap, "", None), self.words]


_SCROLLS = {"up": -1, "down": 1, "pageup": -10, "pagedown": 10, "home": -1000, "end": 1000}
"""Keys that scroll a panel that has more rows than it shows, and by how many rows."""

Line = list[Part]
Groups = dict[str, list[Cell]]


class WhichKey(Static):
    """Shows and hides itself; keys are handled by the text as usual."""

    DEFAULT_CSS = """
    WhichKey {
        display: none;
        layer: which-key;
        dock: bottom;
        height: auto;
        max-height: 100%;
        border: round $border;
        border-title-color: $text;
        border-subtitle-color: $text-muted;
        padding: 0 1;
        background: $background;
        link-style: none;
        link-background: transparent;
    }
    """

    def __init__(self) -> None:
        super().__init__(markup=False)
        self._commands: list[Command] = []
        self._top = 0
        """The first row that is shown."""
        self.border_title = "All keys"

    def show(self, commands: Iterable[Command]) -> None:
        """Show these commands; those that are not possible now are dim."""
        self._commands = list(commands)
        self._top = 0
        self.display = True
        self._draw()

    def action_hide(self) -> None:
        """Hide the panel."""
        self.display = False

    def on_resize(self) -> None:
        """Arrange the keys for the new size; a layout that is at work takes no other height."""
        if self.display:
            self.call_after_refresh(self._draw)

    def before_key(self, event: events.Key) -> None:
        """Hide before a key acts; Esc, and the key that shows the panel, do only that.

        A panel that has more rows than it shows scrolls instead, and stays.
        """
        if not self.display:
            return
        if event.key in _SCROLLS and self._is_cut:
            event.stop()
            event.prevent_default()
            self._scroll(_SCROLLS[event.key])
            return
        active = self.screen.active_bindings.get(event.key)
        self.action_hide()
        if event.key == "escape" or (active and active.binding.action == SHOWS):
            event.stop()

    async def action_press(self, index: int) -> None:
        """Do what a key does."""
        self.action_hide()
        done = self._commands[index].run()
        if hasattr(done, "__await__"):
            await done

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Show the next rows."""
        event.stop()
        self._scroll(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Show the rows before."""
        event.stop()
        self._scroll(-1)

    @property
    def _room(self) -> int:
        """Rows inside the frame."""
        return max(1, _tallest(self.screen.size.height) - 2)

    @property
    def _is_cut(self) -> bool:
        return len(self._lines) > self._room

    def _scroll(self, by: int) -> None:
        self._top += by
        self._draw()

    @property
    def _lines(self) -> list[Line]:
        width = max(1, self.screen.size.width - 4)
        return arrange(_groups(self._commands), width, self._room)

    def _draw(self) -> None:
        lines, room = self._lines, self._room
        self._top = max(0, min(self._top, len(lines) - room))
        place = {id(command): index for index, command in enumerate(self._commands)}
        shown = lines[self._top : self._top + room]
        self.update(Content("\n").join(_line(line, place) for line in shown))
        end = self._top + len(shown)
        rows = f"↑ ↓ rows {self._top + 1}–{end} of {len(lines)} · " * (len(lines) > room)
        self.border_subtitle = Content(f"{rows}Esc close").stylize("@click=hide")


def _tallest(height: int) -> int:
    """Most rows of the panel: three fifths of the screen, all of a low one."""
    return max(height * 3 // 5, min(height, 20))


def _line(line: Line, place: dict[int, int]) -> Content:
    content = Content("")
    for text, style, command in line:
        part = Content(text).stylize(style) if style else Content(text)
        if command is not None:
            part = part.stylize(f"@click=press({place[id(command)]})")
        content = content.append(part)
    return content


def _groups(commands: Iterable[Command]) -> Groups:
    """The cells of each group."""
    return {
        group: [_cell(together) for together in parts]
        for group, parts in by_group(commands).items()
    }


def _cell(commands: Sequence[Command]) -> Cell:
    owner_of = {name: command for command in reversed(commands) for name in command.keys}
    names = list(dict.fromkeys(name for command in commands for name in command.keys))
    possible = {id(command): not command.refused() for command in commands}
    keys = tuple(
        (text, _KEY if possible[id(owner_of[names[index]])] else "dim", owner_of[names[index]])
        if index is not None
        else (text, "dim", None)
        for text, index in written_together(names)
    )
    first = commands[0]
    words = first.key.words if first.key else first.name
    clicked = first if len(commands) <= 2 else None  # words that stand for many do nothing
    return Cell(keys, (words, "" if any(possible.values()) else "dim", clicked))


def arrange(groups: Groups, width: int, height: int) -> list[Line]:
    """The cells in at most `width` columns, and in `height` rows if that is possible.

    Tried in this order: columns of groups; a paragraph for each group, with its heading at the
    left or in the line. If nothing is low enough: the lowest columns that are not too wide.
    """
    columns = [_columns(groups, width, n) for n in range(len(groups), 0, -1)]
    ways = (
        *columns[:-1],
        _paragraphs(groups, width, indent=1 + max((len(name) for name in groups), default=0)),
        _paragraphs(groups, width),
    )
    for lines in ways:
        if 0 < len(lines) <= height and max(map(_width, lines)) <= width:
            return lines
    return min((lines for lines in columns if lines), key=len, default=ways[-1])


def _columns(groups: Groups, width: int, number: int) -> list[Line]:
    """Whole groups in so many columns of about the same height; empty if they are too wide."""
    blocks = [_block(name, cells) for name, cells in groups.items()]
    best: list[list[Line]] = []
    for cuts in combinations(range(1, len(blocks)), number - 1):
        bounds = (0, *cuts, len(blocks))
        columns = [_stack(blocks[a:b]) for a, b in pairwise(bounds)]
        if not best or max(map(len, columns)) < max(map(len, best)):
            best = columns
    widths = [max(map(_width, column)) for column in best]
    spare = width - sum(widths) - _GAP * (len(best) - 1)
    if spare < 0:
        return []
    between = _GAP + min(4, spare // max(1, len(best) - 1))
    lines: list[Line] = []
    for row in range(max(map(len, best))):
        line: Line = []
        for column, wide in zip(best, widths, strict=True):
            parts = column[row] if row < len(column) else []
            line += [*parts, (" " * (wide - _width(parts) + between), "", None)]
        lines.append(line[:-1])
    return lines


def _block(name: str, cells: Sequence[Cell]) -> list[Line]:
    """A heading with its cells below it, their words aligned."""
    keys = max((c.keys_width for c in cells if c.keys_width <= _ALIGNED), default=0)
    return [[(name, _HEADING, None)], *(cell.parts(keys) for cell in cells)]


def _stack(blocks: Iterable[list[Line]]) -> list[Line]:
    """Blocks below each other, with an empty line between them."""
    lines: list[Line] = []
    for block in blocks:
        lines += [[], *block] if lines else block
    return lines


def _paragraphs(groups: Groups, width: int, *, indent: int = 0) -> list[Line]:
    """Each group as a paragraph. indent: width of the headings; 0: they stand in the line."""
    lines: list[Line] = []
    for name, cells in groups.items():
        line: Line = [(name.ljust(indent) + " " * (not indent), _HEADING, None)]
        gap: Line = []
        for cell in cells:
            parts = cell.parts()
            if _width([*line, *gap, *parts]) > width:
                lines.append(line)
                line, gap = [(" " * indent, "", None)], []
            line += [*gap, *parts]
            gap = [(" " * _GAP, "", None)]
        lines.append(line)
    return lines


def _width(parts: Iterable[Part]) -> int:
    return sum(cell_len(text) for text, _, _ in parts)
