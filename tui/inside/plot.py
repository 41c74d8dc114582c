"""Tokens as points on a plane, drawn with characters; no widgets."""

from __future__ import annotations

from rich.cells import cell_len
from rich.segment import Segment

from gpt.interpret.looks import Place as Point
from gpt.interpret.looks import Plane
from tui.inside.sheet import Looks, Row, Sheet
from tui.labels import fit, percent, visible

_LONGEST = 14
"""Most cells of a token's name."""


def plotted(found: Plane, chosen: int, looks: Looks) -> Sheet:
    """A point for each token, with its name where there is room; the chosen token first."""
    x, y = ((*found.explained, 0.0, 0.0))[:2]
    said = (
        f"two principal components of {len(found.places)} tokens: "
        f"across {percent(x)}, up {percent(y)} of the variance"
    )
    head: list[Row] = [[Segment(fit(said, looks.width), looks.faint)]]
    width, height = looks.width, max(1, looks.height - 2)
    taken: dict[tuple[int, int], tuple[str, bool]] = {}
    unnamed = 0
    for point in sorted(found.places, key=lambda point: point.token.token_id != chosen):
        column, row = _cell(point, found, width, height)
        is_chosen = point.token.token_id == chosen
        unnamed += not _write(taken, _name(point), (column, row), width, is_chosen=is_chosen)
    body = [_row(taken, row, width, looks) for row in range(height)]
    note = f"{unnamed} points without a name: they are too close" if unnamed else ""
    return Sheet(head, body, [[Segment(fit(note, looks.width), looks.faint)]])


def _name(point: Point) -> str:
    name = visible(point.token.bytes, point.token.token_id)
    return fit(name, _LONGEST).rstrip() if cell_len(name) > _LONGEST else name


def _cell(point: Point, found: Plane, width: int, height: int) -> tuple[int, int]:
    """Column and row of a point; both axes fill the view."""
    xs, ys = [each.x for each in found.places], [each.y for each in found.places]
    across = (point.x - min(xs)) / ((max(xs) - min(xs)) or 1.0)
    down = (max(ys) - point.y) / ((max(ys) - min(ys)) or 1.0)
    return round(across * max(0, width - 1)), round(down * (height - 1))


def _write(
    taken: dict[tuple[int, int], tuple[str, bool]],
    name: str,
    at: tuple[int, int],
    width: int,
    *,
    is_chosen: bool,
) -> bool:
    """Put a point and its name where nothing stands; False if only the point has room."""
    column, row = at
    n = cell_len(name)
    for first in (column + 1, column - n):  # right of the point, or left of it
        cells = [(first + i, row) for i in range(n)]
        room = [*cells, (first - 1, row), (first + n, row)]  # a blank at both ends
        is_free = all(cell not in taken for cell in room if cell != at)
        if is_free and at not in taken and first >= 0 and first + n <= width:
            taken[at] = "•", is_chosen
            taken |= dict.fromkeys(cells, ("", is_chosen))
            taken[cells[0]] = name, is_chosen
            return True
    taken.setdefault(at, ("•", is_chosen))
    return False


def _row(taken: dict[tuple[int, int], tuple[str, bool]], row: int, width: int, looks: Looks) -> Row:
    found: Row = []
    for column in range(width):
        text, is_chosen = taken.get((column, row), (" ", False))
        if text:
            style = looks.plain if text == " " else looks.here if is_chosen else looks.more
            found.append(Segment(text, style))
    return found
