"""Answers about the inside of a network as tables for a person."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from gpt.commands import inspect_headings as headings
from gpt.commands.inspect_headings import Text, named, row_name
from gpt.commands.percent import percent
from gpt.interpret.architecture import Architecture
from gpt.interpret.effects import Effect, Mattered, PatchGrid, Steering
from gpt.interpret.looks import (
    PART_NAMES,
    Heads,
    LensCell,
    LensGrid,
    LogitParts,
    Neighbours,
    Plane,
    StreamNorms,
    Work,
)
from gpt.record import Record

_CELL = 9
"""Columns of a cell of a grid."""
_BITS = math.log(2)
"""Nats of a bit."""


def lines(answer: Record, text: Text) -> Iterator[str]:
    """The lines of a table, after its heading."""
    heading, rows = _TABLES[type(answer)]
    yield heading(answer, text) + (f"; changed: {text.changed}" if text.changed else "")
    for row in rows(answer, text):
        yield row.rstrip()


def _fitted(text: str, width: int = _CELL) -> str:
    """A text in a cell, cut if it is too long."""
    return f"{text if len(text) <= width else text[: width - 1] + '…':<{width}}"


def _grid(rows: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    """Rows of a name and cells, one below the other; the first one has the headings.

    A terminal too narrow for all columns gets them in blocks, as it would break lines in two.
    """
    width = max(len(name) for name, _ in rows)
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    at_once = max(1, (room - width - 1) // (_CELL + 1))
    for first in range(0, max(1, len(rows[0][1])), at_once):
        if first:
            yield ""
        for name, cells in rows:
            shown = " ".join(_fitted(cell) for cell in cells[first : first + at_once])
            yield f"{name:>{width}}  {shown}"


def _lens(grid: LensGrid, text: Text) -> Iterator[str]:
    token = {each.token_id: named(each) for each in grid.tokens}
    last = len(grid.layers) - 1
    names = [
        row_name(layer, is_middle=is_middle, is_last=row == last)
        for row, (layer, is_middle) in enumerate(zip(grid.layers, grid.is_middle, strict=True))
    ]
    rows = [("", [text.name(each) for each in grid.positions])]
    for name, ids, logprobs in zip(names, grid.ids, grid.logprobs, strict=True):
        rows += [(name, [token[i] for i in ids]), ("", [percent(each) for each in logprobs])]
    yield from _grid(rows)


def _cell(cell: LensCell, text: Text) -> Iterator[str]:
    for token, logprob in zip(cell.tokens, cell.logprobs, strict=True):
        yield f"{percent(logprob):>12}  {named(token)}"


def _heads(found: Heads, text: Text) -> Iterator[str]:
    yield "layer head   weight  token            previous   first duplicate induction"
    scores = {(each.layer, each.head): each for each in found.scores}
    for layer, of_layer in enumerate(found.weights, 1):
        for head, weights in enumerate(of_layer, 1):
            best = max(range(len(weights)), key=weights.__getitem__)
            position = found.start + best
            name = _fitted(f"{position} {text.name(position)}", 15)
            line = f"{layer:5} {head:4} {100 * weights[best]:6.1f} %  {name}"
            if each := scores.get((layer, head)):
                numbers = each.previous, each.first, each.duplicate, each.induction
                line += "".join("       —  " if n is None else f" {n:8.3f} " for n in numbers)
            yield line


def _work(found: Work, text: Text) -> Iterator[str]:
    turned = ", after rotation" if found.is_rotated else ""
    yield f"q = {_vector(found.query)} (norm {found.query_norm:.4g}{turned})"
    yield f"{'token':>5} {'':15} {'q · k':>9} {f'x {found.scale:.4g}':>9} {'weight':>8}  k, v"
    for row in found.rows:
        score = f"{row.score:9.4f}" if row.is_visible else f"{'masked':>9}"
        yield (
            f"{row.position:5} {_fitted(named(row.token), 15)} {row.dot:9.4f} {score} "
            f"{row.weight:8.4f}  {_vector(row.key[:4])} {_vector(row.value[:4])}"
        )
    yield f"Σ weight · v = {_vector(found.mixed)} (norm {found.mixed_norm:.4g})"
    yield f"added to the stream: {_vector(found.added)} (norm {found.added_norm:.4g})"


def _vector(numbers: Sequence[float]) -> str:
    return "[" + " ".join(f"{number:.4f}" for number in numbers) + "]"


def _parts(found: LogitParts, text: Text) -> Iterator[str]:
    for part in sorted(found.parts, key=lambda part: -abs(part.value)):
        name = PART_NAMES.get(part.name, part.name)
        where = f"layer {part.layer} " if part.layer else ""
        yield f"{part.value:+12.5f}  {where}{name}{f' {part.head}' if part.head else ''}"
    yield f"{found.total:+12.5f}  the sum of all parts"
    yield f"{found.logit:+12.5f}  what the network computes"


def _mattered(found: Mattered, text: Text) -> Iterator[str]:
    yield f"{'left out':>9} {'cut':>9} {'gradient':>9}  token"
    columns = zip(found.left_out, found.cut, found.gradient, strict=True)
    for position, numbers in enumerate(columns):
        if any(each is not None for each in numbers):  # others were not asked for
            cells = " ".join(_number(each) for each in numbers)
            yield f"{cells}  {position} {text.name(position)}"


def _number(nats: float | None) -> str:
    """So many nats, in bits."""
    return f"{'—':>9}" if nats is None else f"{nats / _BITS:+9.4f}"


def _effect(found: Effect, text: Text) -> Iterator[str]:
    yield f"{'KL':>9} {'before':>12} {'after':>12}  token"
    columns = zip(found.divergence, found.before, found.after, strict=True)
    for position, (divergence, before, after) in enumerate(columns):
        name = f"{position} {text.name(position)}"
        if position == len(text.tokens):
            name += f" {named(text.asked[0])}"
        if divergence is None or before is None or after is None:
            yield f"{'—':>9} {'—':>12} {'—':>12}  {name}"
        else:
            yield f"{divergence / _BITS:9.4f} {percent(before):>12} {percent(after):>12}  {name}"
    known = [nats for nats in found.divergence if nats is not None]
    if known:
        mean = math.fsum(known) / len(known) / _BITS
        yield f"mean KL {mean:.4f} bits a token, of {len(known)}"


def _patch(found: PatchGrid, text: Text) -> Iterator[str]:
    said = f"difference of the logits: {found.here:.4f} here, {found.there:.4f} in the other text"
    yield said + "; so close that shares say little" * found.is_close
    rows = [("", [text.name(each) for each in found.positions])]
    for layer, row in zip(found.layers, found.share or found.difference, strict=True):
        rows.append((row_name(layer, is_middle=False), [_rounded(number) for number in row]))
    yield from _grid(rows)


def _rounded(number: float) -> str:
    return f"{round(number, 3) + 0.0:.3f}"  # no -0.000


def _steering(found: Steering, text: Text) -> Iterator[str]:
    yield f"norm of the direction            {found.direction_norm:10.4f}"
    yield f"norm of what is added            {found.added_norm:10.4f}"
    yield f"norm of the stream, mean         {found.stream_norm:10.4f}"
    yield f"norm of the stream, last token   {found.last_norm:10.4f}"


def _norms(found: StreamNorms, text: Text) -> Iterator[str]:
    positions = range(found.start, found.start + (len(found.norms[0]) if found.norms else 0))
    rows = [("", [text.name(each) for each in positions])]
    for layer, row in enumerate(found.norms):
        rows.append((row_name(layer, is_middle=False), [f"{norm:.2f}" for norm in row]))
    yield from _grid(rows)


def _neighbours(found: Neighbours, text: Text) -> Iterator[str]:
    yield f"{'cosine':>8} {'dot':>10}  token"
    for part in (found.by_cosine, found.by_dot):
        for each in part:
            name = str(each.token.token_id) if found.matrix == "positions" else named(each.token)
            yield f"{each.cosine:8.4f} {each.dot:10.4f}  {name}"
        yield ""


def _plane(found: Plane, text: Text) -> Iterator[str]:
    for place in found.places:
        yield f"{place.x:10.4f} {place.y:10.4f}  {named(place.token)}"


def _architecture(found: Architecture, text: Text) -> Iterator[str]:
    for weight in found.weights:
        shape = " × ".join(map(str, weight.shape))
        yield f"{weight.size:14,}  {shape:>16}  {weight.name}"
    yield f"{found.n_params:14,}  parameters"
    yield from found.notes


_Heading = Callable[[Any, Text], str]
_Rows = Callable[[Any, Text], Iterator[str]]
_TABLES: dict[type[Record], tuple[_Heading, _Rows]] = {
    LensGrid: (headings.lens, _lens),
    LensCell: (headings.cell, _cell),
    Heads: (headings.heads, _heads),
    Work: (headings.work, _work),
    LogitParts: (headings.parts, _parts),
    Mattered: (headings.mattered, _mattered),
    Effect: (headings.effect, _effect),
    PatchGrid: (headings.patch, _patch),
    Steering: (headings.steering, _steering),
    StreamNorms: (headings.norms, _norms),
    Neighbours: (headings.neighbours, _neighbours),
    Plane: (headings.plane, _plane),
    Architecture: (headings.architecture, _architecture),
}
"""Kind of answer → its first line, and the lines after it."""
