"""All heads as strips over the context, and the chosen one in numbers; no widgets."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from itertools import pairwise
from textwrap import wrap
from typing import NamedTuple

from rich.segment import Segment

from gpt.interpret.looks import Heads, HeadScores
from gpt.interventions import head_state
from tui.bars import bar
from tui.inside.numbers import flowing
from tui.inside.place import Place
from tui.inside.sheet import Looks, Row, Sheet
from tui.labels import fit, fit_one, offset, percent
from tui.widgets.head_rows import UNUSED, in_context


class Kind(NamedTuple):
    """A kind of head that is known by a score from 0 to 1."""

    heads: str
    """What such heads are called."""
    score: str
    """What the score is."""


KINDS = {
    "previous": Kind(
        "previous-token heads",
        "Weight of the token right before, mean over the text from its second token on.",
    ),
    "first": Kind(
        "first-token heads",
        "Weight of the first token of the context, mean over the text from its second token on.",
    ),
    "duplicate": Kind(
        "duplicate-token heads",
        "Weight of earlier tokens that are the same as the one that looks, mean over the tokens "
        "that have such.",
    ),
    "induction": Kind(
        "induction heads",
        "Weight of the tokens right after earlier ones that are the same as the one that looks, "
        "mean over the tokens that have such.",
    ),
}
"""Name of a score → the kind."""
SOURCE = (
    "Elhage and others 2021, A Mathematical Framework for Transformer Circuits; Olsson and others "
    "2022, arXiv:2209.11895, who measure induction on random tokens that repeat; here it is the "
    "text itself."
)
_OFF = "○"
"""After the number of a head whose output the network does not use."""
STRONGEST = 5
"""Weights of the chosen head that are listed."""
NAME = 4
"""Cells of a layer's number."""
SIDE = 36
"""Cells of the list next to the strips."""
TALL = 16
"""Rows of a view that has room for a list below the strips."""
_NARROWEST, _WIDEST = 4, 20
"""Cells of a strip, with the gap after it."""
_BLOCKS = " ▁▂▃▄▅▆▇"
"""Not the full one: rows that touch would look like one."""


def strip(weights: Sequence[float], cells: int) -> str:
    """Weights over a context in so many cells or fewer: each is the sum of its tokens' weights.

    Heights grow with the square root, so that small weights differ.
    """
    n = len(weights)
    cells = min(cells, n)
    bounds = [i * n // cells for i in range(cells + 1)] if cells else []
    sums = [math.fsum(weights[a:b]) for a, b in pairwise(bounds)]
    return "".join(_BLOCKS[round(7 * math.sqrt(max(0.0, min(1.0, s))))] for s in sums)


def shown_heads(place: Place, width: int) -> tuple[range, int]:
    """Indices of the heads that fit next to each other, and the cells of each."""
    n = place.config.n_head
    cells = max(_NARROWEST, min(_WIDEST, (width - NAME) // n))
    count = max(1, min(n, (width - NAME) // cells))
    first = max(0, min(place.head - 1 - count // 2, n - count))
    return range(first, first + count), cells


def matrix(found: Heads, place: Place, looks: Looks) -> Sheet:
    """A row for each layer, with a strip for each head."""
    shown, cells = shown_heads(place, looks.width)
    n = len(found.weights[0][0])
    heading = [Segment(fit("head", NAME + 1), looks.faint)]
    for head in shown:
        style = looks.top if head + 1 == place.head else looks.faint
        heading.append(Segment(fit(f"{head + 1}", cells), style))
    sheet = Sheet([_about(place, n, looks), heading], at=place.block - 1)
    for layer, heads in enumerate(found.weights, 1):
        is_row = layer == place.block
        row = [Segment(f"{layer:>{NAME - 1}} ", looks.top if is_row else looks.faint)]
        for head in shown:
            drawn = strip(heads[head], cells - 1).ljust(min(n, cells - 1))
            is_here = is_row and head + 1 == place.head
            if not is_here and head_state(place.drawn_with, layer, head + 1):
                drawn = UNUSED * len(drawn)
            row.append(Segment(drawn, looks.here if is_here else looks.more))
            row.append(Segment(" " * (cells - len(drawn)), looks.plain))
        sheet.body.append(row)
    return sheet


def _about(place: Place, n: int, looks: Looks) -> Row:
    ways = (
        f"{place.where}: weights over {n} tokens, heights as √weight",
        f"√weight over {n} tokens, {place.where}",
    )
    return [Segment(fit_one(ways, looks.width), looks.faint)]


def ranking(
    found: Heads, ranked: Sequence[HeadScores], kind: str, place: Place, looks: Looks
) -> Sheet:
    """The heads by their score of a kind, best first, with their strips."""
    title = f"  layer head {kind:>9}  here, over the context"
    sheet = Sheet([[Segment(fit(title, looks.width), looks.faint)]])
    if not found.scores:
        sheet.body = [[Segment("Measuring the heads over the whole context…", looks.faint)]]
    elif not ranked:
        said = "No token of this text has what this kind of head looks for."
        sheet.body = [[Segment(line, looks.plain)] for line in wrap(said, max(1, looks.width))]
    for n, each in enumerate(ranked):
        is_here = (each.layer, each.head) == (place.block, place.head)
        if is_here:
            sheet.at = n
        score = getattr(each, kind)
        state = head_state(place.drawn_with, each.layer, each.head)
        off = _OFF if state else " "
        label = f"{'▸' if is_here else ' '} {each.layer:>5} {each.head:>4}{off}{score:>9.3f}  "
        weights = found.weights[each.layer - 1][each.head - 1]
        drawn = strip(weights, max(1, looks.width - len(label)))
        style = looks.here if is_here else looks.plain
        sheet.body.append([Segment(label, style), Segment(drawn, looks.more)])
    return sheet


def chosen_head(found: Heads, place: Place, looks: Looks) -> list[Row]:
    """The strongest weights of the chosen head, then its scores; in a low place few rows."""
    layer, head = place.block, place.head
    weights = found.weights[layer - 1][head - 1]
    best = heapq.nlargest(STRONGEST, range(len(weights)), key=weights.__getitem__)
    strongest = [(found.start + i, weights[i]) for i in best]
    scores = next((s for s in found.scores if (s.layer, s.head) == (layer, head)), None)
    known = [] if scores is None else [(kind, getattr(scores, kind)) for kind in KINDS]
    state = head_state(place.drawn_with, layer, head)
    titles = [f"layer {layer}, head {head} looks at"]
    if state:
        titles = [f"layer {layer}, head {head} ({each}) looks at" for each in (state, "not used")]
    rows: list[Row] = [[Segment(fit_one(titles, looks.width), looks.top)]]
    if looks.height >= TALL:
        rows += [_weight(found, place, each, looks) for each in strongest]
    else:
        said = [
            f"{place.name(position)} {offset(position, found.position)} {percent(weight)}"
            for position, weight in strongest
        ]
        rows += [[Segment(line, looks.plain)] for line in flowing(said, looks.width, 1)]
    if looks.width > SIDE or looks.height < TALL:
        said = [f"{kind} {_score(score)}" for kind, score in known]
        rows += [[Segment(line, looks.faint)] for line in flowing(said, looks.width, 2)]
    elif known:
        rows += [[], [Segment("kind of head, score from 0 to 1", looks.faint)]]
        for kind, score in known:
            label = f"{kind:<12} {_score(score):>13} "
            drawn = bar(score or 0.0, max(1, looks.width - len(label)), looks.more).plain
            rows.append([Segment(label, looks.plain), Segment(drawn, looks.more)])
    return rows


def _score(score: float | None) -> str:
    return "–" if score is None else f"{score:.3f}"


def _weight(found: Heads, place: Place, each: tuple[int, float], looks: Looks) -> Row:
    """A token that the head looks at: after what, how far back, how much."""
    position, weight = each
    before, name = in_context(place.nodes, position, 12)
    label = f"{name} {offset(position, found.position):>5} {percent(weight):>7} "
    drawn = bar(weight, max(1, looks.width - 27), looks.more).plain
    parts = (before, looks.faint), (label, looks.plain), (drawn, looks.more)
    return [Segment(text, style) for text, style in parts]


def definitions(looks: Looks) -> Sheet:
    """What the kinds of heads are."""
    rows: list[Row] = []
    width = max(4, looks.width)
    for kind in KINDS.values():
        rows.append([Segment(fit(kind.heads, width), looks.top)])
        rows += [[Segment(f"  {line}", looks.plain)] for line in wrap(kind.score, width - 2)]
    rows += [[Segment(line, looks.faint)] for line in wrap(SOURCE, width)]
    return Sheet(body=rows)
