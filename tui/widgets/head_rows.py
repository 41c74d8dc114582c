"""Where the heads of a layer look, as rows of cells; no widgets."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from itertools import groupby

from rich.cells import cell_len
from rich.segment import Segment

from tui.document import Node
from tui.labels import fit, fit_one, name_of, offset, percent
from tui.widgets.layer_picture import BLOCKS, PERCENT, Found, Grid, Looks, Row, Styles

UNUSED = "·"
"""In place of the weights of a head that is muted or replaced by its mean."""
_LABEL, _SHORT, _WHERE = 8, 6, 5
"""Cells of the columns."""


def heads(found: Found, looks: Looks) -> tuple[list[Row], Grid | None]:
    """A title, then a row for each token that is looked at most, with a cell for each head."""
    width, height, styles = looks.width, looks.height, looks.styles
    if height < 1:
        return [], None
    title = [Segment(fit_one(found.titles, width), styles.faint)]
    attention = found.attention
    if not attention.heads:
        return [title], None
    has_header, has_where = height >= 6, width >= 36
    label = _LABEL + (width - 36) // 4 if has_where else _LABEL if width >= 28 else _SHORT
    x = label + 1 + PERCENT + 1 + (_WHERE + 1) * has_where
    grid = _grid(len(attention.heads), found.head, x, width - x - 1)
    weights = attention.weights(found.head)
    room = height - 1 - has_header
    has_rest = room >= 4 and len(weights) > room
    best = heapq.nlargest(room - has_rest, range(len(weights)), key=weights.__getitem__)
    rows = [title]
    if has_header:
        where = f" {'where':>{_WHERE}}" if has_where else ""
        name = fit("looks at" if label >= _LABEL else "token", label)
        left = f"{name}{where} {'weight':>{PERCENT}} "
        rows.append([Segment(left[:-1] + _header(grid, found, width - x), styles.faint)])
    first = len(found.nodes) - 1 - len(weights)
    for place in best:
        before, name = in_context(found.nodes, first + place, label)
        where = f" {offset(place, len(weights) - 1):>{_WHERE}}" if has_where else ""
        left = f"{name}{where} {percent(weights[place]):>{PERCENT}} "
        row = [Segment(before, styles.faint), Segment(left, styles.plain)]
        rows.append([*row, *_cells(found, grid, place, styles)])
    if has_rest:
        rest = math.fsum(weights) - math.fsum(weights[place] for place in best)
        n, cells = len(weights) - len(best), x - PERCENT - 2
        name = f"{n:,} more"
        name = fit(name if len(name) <= cells else "others", cells)
        rows.append([Segment(f"{name} {percent(max(0.0, rest)):>{PERCENT}}", styles.faint)])
    return rows, grid


def in_context(nodes: Sequence[Node], index: int, width: int) -> tuple[str, str]:
    """A token at the right end of `width` cells, after as much of the text before it as fits.

    Its own label is often a single letter, which the text has many times.
    """
    step = nodes[index].step
    name = name_of(step)
    if cell_len(name) >= width:
        return "", fit(name, width)
    room, before = width - cell_len(name), ""
    for node in nodes[max(0, index - room) : index][::-1]:
        before = name_of(node.step) + before
        if cell_len(before) >= room:
            break
    while cell_len(before) > room:
        before = before[1:]
    return before.rjust(room - cell_len(before) + len(before)), name


def _grid(n_heads: int, head: int, x: int, room: int) -> Grid:
    """The heads that fit, with the chosen one."""
    cells = max(1, min(3, room // n_heads))
    count = max(0, min(n_heads, room // cells))
    first = max(0, min(head - 1 - count // 2, n_heads - count))
    return Grid(x, cells, first, count)


def _header(grid: Grid, found: Found, room: int) -> str:
    """The numbers of the heads; begins a cell before them.

    Where they would touch: the first, the last and the chosen one.
    """
    heads = range(grid.first + 1, grid.first + grid.n_shown + 1)
    last = grid.n_shown * grid.cells
    line = [" "] * last
    has_room = heads.stop <= 10 or len(str(heads.stop - 1)) < grid.cells
    ends = [] if found.head in heads else [*heads[:1], *heads[-1:]]
    for head in heads if has_room else [*ends, *([found.head] if found.head in heads else [])]:
        number = str(head)
        at = min((head - heads.start) * grid.cells, last - len(number))
        line[max(0, at) : at + len(number)] = number
    more = "›" if heads.stop <= len(found.attention.heads) else ""
    return fit(("‹" if grid.first else " ") + "".join(line) + more, room + 1)


def _cells(found: Found, grid: Grid, place: int, styles: Styles) -> Row:
    """The weight that each head gives to one token."""
    attention = found.attention
    parts = []
    for index in range(grid.first, grid.first + grid.n_shown):
        is_here = index + 1 == found.head
        block = _block(attention.heads[index][place])
        if not is_here and found.state(index + 1):
            block = UNUSED
        text = block * max(1, grid.cells - 1) + " " * (grid.cells > 1)
        is_top = attention.top(index) == place
        style = "here" if is_here else "top" if is_top else "cell"
        parts.append((style, text))
    return [
        Segment("".join(text for _, text in run), getattr(styles, style))
        for style, run in groupby(parts, key=lambda part: part[0])
    ]


def _block(weight: float) -> str:
    """A block by the square root of a weight, so that small weights differ."""
    return BLOCKS[round(8 * math.sqrt(min(1.0, weight)))] if weight > 0 else " "
