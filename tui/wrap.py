"""Breaks tokens into rows of terminal cells; no widgets, no colours."""

from __future__ import annotations

from rich.cells import cell_len

from gpt.sanitize import sanitize

TAB = "\t   "
"""A tab is as wide as four spaces: one cell for itself, then three."""
Piece = tuple[int, str]
"""Index of a token and the part of its text that is in a row; `cells` measures it."""

_ONE_CELL = frozenset("\n\t")


def cells(text: str) -> int:
    """Width of a piece in cells; a line break and a tab have one each."""
    if text.isascii():  # a control character is a visible sign by then
        return len(text)
    return sum(1 if character in _ONE_CELL else cell_len(character) for character in text)


class Rows:
    """Text broken into rows at spaces, growing at its end.

    The cost of appending depends only on the new text: all rows except the last stay as they are.
    A line break is one cell at the end of its row, so that a reader can see it and point at it. A
    token that adds no text is a piece of width 0.
    """

    def __init__(self, width: int) -> None:
        self.width = max(2, width)
        self._done: list[list[Piece]] = []
        self._open: list[Piece] = []
        self._used = 0
        """Width of the open row, in cells."""
        self.first_row: list[int] = []
        """For each token, the row where it begins."""

    def __len__(self) -> int:
        return len(self._done) + 1

    def __getitem__(self, row: int) -> list[Piece]:
        return self._done[row] if row < len(self._done) else self._open[:]

    def row_of(self, index: int | None) -> int:
        """The row where a token begins; 0 for a token that does not exist."""
        if index is None or not 0 <= index < len(self.first_row):
            return 0
        return self.first_row[index]

    def rows_of(self, index: int | None) -> range:
        """All rows of a token; None has no rows."""
        if index is None:
            return range(0)
        after = index + 1 < len(self.first_row)
        return range(self.row_of(index), (self.row_of(index + 1) if after else len(self)) + 1)

    def letter_row(self, index: int) -> int:
        """The row of a token's first letter; of its beginning if it has only blanks."""
        begin = self.first_row[index]
        for row in range(begin, len(self)):
            parts = [text for each, text in self[row] if each == index]
            if not parts:
                break
            if "".join(parts).strip(" \n\t"):
                return row
        return begin

    def column_of(self, index: int) -> int:
        """The cell of its row where a token begins."""
        column = 0
        for each, text in self[self.row_of(index)]:
            if each == index:
                break
            column += cells(text)
        return column

    def token_at(self, row: int, column: int) -> int | None:
        """The token at a cell, or the last one of the row; None if the row has no token."""
        if not 0 <= row < len(self) or not (pieces := self[row]):
            return None
        for index, text in pieces:
            column -= cells(text)
            if column < 0:
                return index
        return pieces[-1][0]

    def append(self, text: str) -> None:
        """Add the text of the next token; it may hold control characters."""
        index = len(self.first_row)
        shown = sanitize(text).replace("\t", TAB)
        width = cells(shown)
        if not shown or (self._used + width < self.width and "\n" not in shown):
            self._open.append((index, shown))
            self._used += width
            self.first_row.append(len(self._done))
            return
        for character in shown:
            self._make_room(character)
            self._add(index, character)
            if index == len(self.first_row):
                self.first_row.append(len(self._done))
            if character == "\n":
                self._close(self._open, [])

    def _add(self, index: int, character: str) -> None:
        before = self._open.pop()[1] if self._open and self._open[-1][0] == index else ""
        self._open.append((index, before + character))
        self._used += cells(character)

    def _make_room(self, character: str) -> None:
        """Break the open row until a character fits into it."""
        is_blank = character in {" ", "\n"}
        # One cell stays free for a line break; a space may use it too.
        room = self.width - cells(character) - (0 if is_blank else 1)
        # A moved word may be too long for its new row as well; then it breaks again.
        while self._used and self._used > room:
            text = "".join(part for _, part in self._open)
            # Spaces before a line break move with their word, or the break would stand alone.
            end = len(text.rstrip(" ")) if character == "\n" else len(text)
            # A row breaks after its last space, or right here if it has none.
            self._close(*_split(self._open, text.rfind(" ", 0, end) + 1 or len(text)))

    def _close(self, row: list[Piece], rest: list[Piece]) -> None:
        """Finish the open row as `row`; `rest` begins the next one."""
        self._done.append(row)
        self._open, self._used = rest, sum(cells(text) for _, text in rest)
        if not rest:
            return
        first = rest[0][0]
        if row and row[-1][0] == first:
            first += 1  # the break cuts this token, which still begins in the old row
        for index in range(first, len(self.first_row)):
            self.first_row[index] = len(self._done)


def _split(pieces: list[Piece], place: int) -> tuple[list[Piece], list[Piece]]:
    """The pieces before and after a place in their text, counted in characters."""
    for n, (index, text) in enumerate(pieces):
        if place <= len(text):
            parts = (index, text[:place]), (index, text[place:])
            left, right = ([part] if part[1] else [] for part in parts)
            return [*pieces[:n], *left], [*right, *pieces[n + 1 :]]
        place -= len(text)
    return pieces, []
