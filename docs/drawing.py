"""Draws the screen of a terminal as SVG: letters as text, bars and lines as shapes without gaps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from typing import NamedTuple

import pyte

W, H = 8.4, 17.0
"""Size of a cell, for letters of 14 pixels."""
EDGE, BAR = 10.0, 30.0
"""Room around the screen, and height of the bar above it, in pixels."""
DARK, LIGHT = "#121212", "#e0e0e0"
"""What a terminal draws where the program says nothing."""
FONT = "ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace"

_LINE = 1.2
_BLOCKS = {
    "█": (0, 0, 1, 1),
    **{character: (0, 0, n / 8, 1) for n, character in enumerate(" ▏▎▍▌▋▊▉") if n},
    **{character: (0, 1 - n / 8, 1, n / 8) for n, character in enumerate(" ▁▂▃▄▅▆▇") if n},
    "▀": (0, 0, 1, 0.5),
    "▐": (0.5, 0, 0.5, 1),
}
"""Character → left, top, width and height of a filled rectangle, in cells."""
_SHADES = {"░": 0.3, "▒": 0.5, "▓": 0.7}
"""Character → opacity of a filled cell."""
_ARMS = {
    "─": "lr", "│": "tb", "├": "tbr", "┤": "tbl", "┬": "lrb", "┴": "lrt", "┼": "lrtb",
    "┌": "rb", "┐": "lb", "└": "rt", "┘": "lt", "╴": "l", "╶": "r",
}  # fmt: skip
"""Character → the directions in which its lines leave the middle of the cell."""
_ENDS = {"l": (0.0, H / 2), "r": (W, H / 2), "t": (W / 2, 0.0), "b": (W / 2, H)}
_CORNERS = {"╭": "rb", "╮": "lb", "╰": "rt", "╯": "lt"}


class Cell(NamedTuple):
    """A character and its looks; colours as "#rrggbb"."""

    text: str
    letters: str
    ground: str
    bold: bool
    italic: bool
    underline: bool

    @property
    def style(self) -> tuple[str, bool, bool, bool]:
        """Everything but text and ground."""
        return self.letters, self.bold, self.italic, self.underline


Row = tuple[Cell, ...]


def rows(screen: pyte.Screen) -> list[Row]:
    """The cells of a screen; the second half of a wide character is empty."""
    return [
        tuple(_cell(screen.buffer[y][x]) for x in range(screen.columns))
        for y in range(screen.lines)
    ]


def _cell(char: pyte.screens.Char) -> Cell:
    letters, ground = _colour(char.fg, LIGHT), _colour(char.bg, DARK)
    if char.reverse:
        letters, ground = ground, letters
    return Cell(char.data, letters, ground, char.bold, char.italics, char.underscore)


def _colour(name: str, default: str) -> str:
    return f"#{name}" if len(name) == 6 and name != "default" else default


class Drawing:
    """Rows of cells as SVG; equal looks share a class."""

    def __init__(self, ground: str) -> None:
        self.ground = ground
        """The colour of the window: cells with it need no rectangle."""
        self._classes: dict[tuple[str, bool, bool, bool], str] = {}

    def row(self, cells: Row) -> str:
        """One row, with its upper left corner at (0, 0)."""
        return "".join((*self._grounds(cells), *self._shapes(cells), *self._texts(cells)))

    def _grounds(self, cells: Row) -> Iterator[str]:
        for x, width, run in _runs(cells, [cell.ground for cell in cells]):
            if run[0].ground != self.ground:
                yield _rectangle((x, 0), (width, H + 0.3), run[0].ground)

    def _shapes(self, cells: Row) -> Iterator[str]:
        for x, width, run in _runs(cells, [(cell.text, cell.letters) for cell in cells]):
            text, colour = run[0].text, run[0].letters
            columns = [x + i * W for i in range(len(run))]
            if text in _BLOCKS:
                left, top, across, down = _BLOCKS[text]
                # Blocks overlap a little, so that no line shows between them.
                for begin, size in [(x, width)] if across == 1 else [(at, W) for at in columns]:
                    corner = (begin + left * W - 0.3, top * H)
                    yield _rectangle(corner, (size * across + 0.3, down * H + 0.3), colour)
            elif text in _SHADES:
                yield _rectangle((x, 0), (width, H), colour, _SHADES[text])
            elif text == "─":
                yield _rectangle((x, (H - _LINE) / 2), (width, _LINE), colour)
            elif text in SHAPES:
                for at in columns:
                    yield f'<path d="{_path(text, at)}" stroke="{colour}"/>'

    def _texts(self, cells: Row) -> Iterator[str]:
        def key(cell: Cell) -> object:
            return None if cell.text in SHAPES else cell.style

        for x, _, run in _runs(cells, [key(cell) for cell in cells]):
            if run[0].text in SHAPES:
                continue
            for i, part in _words(run):
                text = "".join(cell.text for cell in part)
                width = f' textLength="{_n(len(part) * W)}"' if len(text) > 1 else ""
                where = f'x="{_n(x + i * W)}" y="{_n(H * 0.76)}"'
                yield f'<text class="{self._class(part[0])}" {where}{width}>{escape(text)}</text>'

    def _class(self, cell: Cell) -> str:
        return self._classes.setdefault(cell.style, f"c{len(self._classes)}")

    def styles(self) -> str:
        """Rules for the rows that were drawn; to be read last."""
        rules = [
            f"text{{font:14px {FONT};white-space:pre}}path{{fill:none;stroke-width:{_LINE}}}",
        ]
        for (colour, bold, italic, underline), name in self._classes.items():
            rules.append(
                f".{name}{{fill:{colour}"
                + ";font-weight:bold" * bold
                + ";font-style:italic" * italic
                + ";text-decoration:underline" * underline
                + "}"
            )
        return "".join(rules)


SHAPES = {*_BLOCKS, *_SHADES, *_ARMS, *_CORNERS}
"""Characters that are drawn as shapes, because fonts leave gaps between them."""


def _runs(cells: Row, keys: Sequence[object]) -> Iterator[tuple[float, float, Row]]:
    """Left edge, width and cells of each run of cells with equal keys."""
    for _, group in groupby(range(len(cells)), key=keys.__getitem__):
        run = list(group)
        yield run[0] * W, len(run) * W, cells[run[0] : run[-1] + 1]


def _words(run: Row) -> Iterator[tuple[int, Row]]:
    """Pieces of a run without two spaces in a row, with the index of their first cell."""
    begin, spaces = None, 0
    for i, cell in enumerate(run):
        spaces = spaces + 1 if cell.text == " " and not cell.underline else 0
        if spaces == 0 and begin is None:
            begin = i
        elif spaces == 2 and begin is not None:
            yield begin, run[begin : i - 1]
            begin = None
    if begin is not None:
        yield begin, run[begin : len(run) - spaces]


def _path(character: str, x: float) -> str:
    if character in _CORNERS:
        (x1, y1), (x2, y2) = (_ENDS[end] for end in _CORNERS[character])
        return f"M{_n(x + x1)} {_n(y1)}Q{_n(x + W / 2)} {_n(H / 2)} {_n(x + x2)} {_n(y2)}"
    middle = f"{_n(x + W / 2)} {_n(H / 2)}"
    ends = (_ENDS[end] for end in _ARMS.get(character, ""))
    return "".join(f"M{middle}L{_n(x + x1)} {_n(y1)}" for x1, y1 in ends)


def _rectangle(
    at: tuple[float, float], size: tuple[float, float], colour: str, opacity: float = 1
) -> str:
    x, y, width, height = map(_n, (*at, *size))
    seen = f' fill-opacity="{opacity}"' if opacity < 1 else ""
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{colour}"{seen}/>'


def _n(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")


def ground_of(cells: Sequence[Row]) -> str:
    """The colour of most cells."""
    grounds = [cell.ground for row in cells for cell in row]
    return max(set(grounds), key=grounds.count)


def window(size: tuple[int, int], ground: str, inside: str, words: tuple[str, str]) -> str:
    """A whole file. size: columns and rows. words: title for screen readers, title in the bar."""
    width, height = size[0] * W + 2 * EDGE, size[1] * H + EDGE + BAR
    title, shown = (escape(text) for text in words)
    dots = "".join(
        f'<circle cx="{18 + 20 * i}" cy="15" r="5.5" fill="{colour}"/>'
        for i, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    is_light = int(ground[3:5], 16) > 127
    bar, letters = ("#dcdcdc", "#444444") if is_light else ("#2a2a2a", "#b0b0b0")
    frame = f'width="{_n(width)}" height="{_n(height)}"'
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(height)}" '
            f'{frame} role="img" aria-label="{title}">',
            f"<title>{title}</title>",
            f'<clipPath id="all"><rect {frame} rx="8"/></clipPath><g clip-path="url(#all)">',
            f'<rect {frame} fill="{ground}"/>',
            f'<rect width="{_n(width)}" height="{BAR - 2:.0f}" fill="{bar}"/>{dots}',
            f'<text x="{_n(width / 2)}" y="19.5" text-anchor="middle" fill="{letters}" '
            f'style="font:13px {FONT}">{shown}</text>',
            f'<g transform="translate({_n(EDGE)} {_n(BAR)})">{inside}</g>',
            "</g></svg>\n",
        )
    )


def picture(cells: Sequence[Row], title: str) -> str:
    """A file that shows one screen."""
    drawing = Drawing(ground_of(cells))
    drawn = [
        f'<g transform="translate(0 {_n(y * H)})">{row}</g>\n'
        for y, row in enumerate(map(drawing.row, cells))
        if row
    ]
    inside = f"<style>{drawing.styles()}</style>\n{''.join(drawn)}"
    return window((len(cells[0]), len(cells)), drawing.ground, inside, (title, "gpt-tui"))
