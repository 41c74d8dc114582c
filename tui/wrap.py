"""Breaks tokens into rows of terminal cells; no widgets, no colours."""

from __future__ import annotations

from dataclasses import dataclass

from rich.cells import cell_len

from gpt.sanitize import sanitize

TAB = "    "
Piece = tuple[int, str]
"""Index of a token and the part of its text that is in a row."""


@dataclass(slots=True)
class _Cell:
    index: int
    text: str
    width: int


class Rows:
    """Text broken into rows at spaces, growing at its end.

    The cost of appending depends only on the new text: all rows except the last stay as they are.
    A line break is one blank cell at the end of its row, so that a reader can see it and point at
    it. A token that adds no text is a piece of width 0.
    """

    def __init__(self, width: int) -> None:
        self.width = max(2, width)
        self._done: list[list[Piece]] = []
        self._open: list[_Cell] = []
        self._used = 0
        self.first_row: list[int] = []
        """For each token, the row where it begins."""

    def __len__(self) -> int:
        return len(self._done) + 1

    def __getitem__(self, row: int) -> list[Piece]:
        return self._done[row] if row < len(self._done) else _pieces(self._open)

    def append(self, text: str) -> None:
        """Add the text of the next token; it may hold control characters."""
        index = len(self.first_row)
        for character in sanitize(text).replace("\t", TAB) or [""]:
            is_break = character == "\n"
            if is_break:
                self._open.append(_Cell(index, " ", 1))
            else:
                self._put(_Cell(index, character, cell_len(character)))
            if index == len(self.first_row):
                self.first_row.append(len(self._done))
            if is_break:
                self._close(len(self._open))

    def _put(self, cell: _Cell) -> None:
        # One cell stays free for the blank of a line break; a space may use it too.
        limit = self.width - (0 if cell.text == " " else 1)
        # A moved word may be too long for its new row as well; then it breaks again.
        while self._open and self._used + cell.width > limit:
            spaces = (i for i in range(len(self._open), 0, -1) if self._open[i - 1].text == " ")
            # A row breaks after its last space, or right here if it has none.
            self._close(next(spaces, len(self._open)))
        self._open.append(cell)
        self._used += cell.width

    def _close(self, end: int) -> None:
        """Finish the open row before its cell `end`; the rest begins the next one."""
        rest = self._open[end:]
        self._done.append(_pieces(self._open[:end]))
        self._open, self._used = rest, sum(cell.width for cell in rest)
        if not rest:
            return
        first = rest[0].index
        if self._done[-1] and self._done[-1][-1][0] == first:
            first += 1  # the break cuts this token, which still begins in the old row
        for index in range(first, len(self.first_row)):
            self.first_row[index] = len(self._done)


def _pieces(cells: list[_Cell]) -> list[Piece]:
    pieces: list[Piece] = []
    for cell in cells:
        if pieces and pieces[-1][0] == cell.index:
            pieces[-1] = (cell.index, pieces[-1][1] + cell.text)
        else:
            pieces.append((cell.index, cell.text))
    return pieces
