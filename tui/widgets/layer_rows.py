"""What each layer guesses, as rows of cells; no widgets."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.cells import cell_len
from rich.segment import Segment

from gpt.interpret.answers import Layer
from gpt.sanitize import one_line
from gpt.step import Candidate, Step
from tui.bars import bar
from tui.labels import fit, name_of, percent, visible
from tui.widgets.head_rows import heads
from tui.widgets.layer_picture import BLOCKS, PERCENT, Found, Looks, Picture, Row, Styles

_NAME, _LABEL, _RANK = 9, 8, 6
"""Cells of the columns."""
_LEAST_BAR = 3
"""A bar with fewer cells says less than its number."""
_GAP = 2
"""Cells between the layers and their attention."""
_ROUNDING = 0.02
"""Nats; two log-probabilities of a token that differ by more are not those of one network."""
_LOW = 9
"""A panel with fewer rows puts the attention next to the layers."""


def picture(found: Found, looks: Looks) -> Picture:
    """The layers above their attention, or next to it if the panel is low or very wide."""
    width, height, styles = looks.width, looks.height, looks.styles
    shown = Picture(looks)
    if width >= 96 or (width >= 52 and height < _LOW):
        left = min(56, (width - _GAP) * 3 // 5)
        _lens(found, Looks(left, height, styles), shown)
        shown.heads_x = left + _GAP
        rows, grid = heads(found, Looks(width - left - _GAP, height, styles))
        shown.rows += [[]] * (len(rows) - len(shown.rows))
        for y, row in enumerate(rows):
            used = sum(segment.cell_length for segment in shown.rows[y])
            gap = Segment(" " * (left + _GAP - used), styles.plain)
            shown.rows[y] = [*shown.rows[y], gap, *row]
    else:
        least = max(4, height * 2 // 5) if height >= _LOW else 2 if height > 4 else 0
        _lens(found, Looks(width, height - least, styles), shown)
        if height > 16:
            shown.rows.append([])
        shown.heads_at = len(shown.rows)
        rows, grid = heads(found, Looks(width, height - len(shown.rows), styles))
        shown.rows += rows
    shown.grid = grid
    return shown


def shown_layers(n: int, at: int, room: int) -> list[int]:
    """Indices of the layers that `room` rows show: those around `at`, and always the last one."""
    if room < 2:
        return [at][:room]
    count = min(n - 1, room - 1)
    first = max(0, min(at - count // 2, n - 1 - count))
    return [*range(first, first + count), n - 1]


def _lens(found: Found, looks: Looks, shown: Picture) -> None:
    """Add a heading, a row for each layer, and the curve of the rank; at most `height` rows."""
    width, height, styles = looks.width, looks.height, looks.styles
    has_curve = height >= 6
    layers, at = found.layers, found.at
    rows, shown.lens_width = shown.rows, width
    indices = shown_layers(len(layers), at, height - 1 - has_curve)
    rows.append(_heading(found, width, styles, is_whole=len(indices) == len(layers)))
    for index in indices:
        shown.layers[len(rows)] = index
        rows.append(_layer(found, index, width, styles))
    if has_curve:
        rows.append(_curve([layer.chosen_rank for layer in layers], at, width, styles))
    del rows[max(0, height) :]


def _room(width: int) -> tuple[int, int, bool]:
    """Cells of the guess's label and of its bar, and whether its probability has a place.

    A bar without its number would stand beside the probability of another token.
    """
    rest = width - _NAME - PERCENT - _RANK - 4
    label = min(_LABEL, rest)
    has_percent = rest - label > PERCENT
    bar_cells = rest - label - PERCENT - 2
    return label, bar_cells if bar_cells >= _LEAST_BAR else 0, has_percent


def _heading(found: Found, width: int, styles: Styles, *, is_whole: bool) -> Row:
    """is_whole: all layers have a row."""
    _, _, has_percent = _room(width)
    after = "after" if is_whole else "after ↕"
    left = f" {after:{_NAME}} {'guess and P' if has_percent else 'guess'}"
    step = found.nodes[-1].step
    name, room = name_of(step), width - cell_len(left) - _RANK - 8
    right = f'P("{fit(name, max(1, min(cell_len(name), room)))}")'
    gap = width - cell_len(left) - cell_len(right) - _RANK - 1
    return [Segment(f"{left}{'':{max(1, gap)}}{right} {'rank':>{_RANK}}", styles.faint)]


def _layer(found: Found, index: int, width: int, styles: Styles) -> Row:
    """One layer: its best guess, and the probability and rank of the token in the text."""
    layer, is_here = found.layers[index], index == found.at
    is_output = index == len(found.layers) - 1 > 0
    label, cells, has_percent = _room(width)
    guess, p = "", 0.0
    if layer.ids:
        logprob = layer.logprobs[0]
        if is_output:
            logprob = _agreed(found, layer.ids[0], logprob)
        guess, p = _guess(found, layer), math.exp(logprob)
    name = fit("output" if is_output else one_line(layer.name), _NAME)
    plain = styles.here if is_here else styles.plain
    row = [Segment(f"{'▸' if is_here else ' '}{name} {fit(guess, label)}", plain)]
    if cells:
        bold = styles.here if is_here else styles.guess
        row += [Segment(" ", plain), Segment(bar(p, cells, styles.guess).plain, bold)]
    logprob = layer.chosen_logprob
    if is_output:
        logprob = _agreed(found, found.nodes[-1].step.token_id, logprob)
    chosen = percent(math.exp(logprob))
    own = f" {chosen:>{PERCENT}} {_short(layer.chosen_rank):>{_RANK}}"
    used = _NAME + label + 2 + (cells + 1) * bool(cells) + len(own)
    more = f"{percent(p):>{width - used}}" if has_percent else " " * (width - used)
    return [*row, Segment(f"{more}{own}", plain)]


def _agreed(found: Found, token_id: int, logprob: float) -> float:
    """What the output says of a token, as the panel of the token has it.

    For the layers the network read the text again, which in 16 bits rounds differently; but a
    screen should have one number for one probability.
    """
    step = found.nodes[-1].step
    known: tuple[Step | Candidate, ...] = (step, *step.candidates)
    own = next((each.logprob for each in known if each.token_id == token_id), None)
    return logprob if own is None or abs(own - logprob) > _ROUNDING else own


def _guess(found: Found, layer: Layer) -> str:
    """A layer's best guess; a special token by its name, if it is one of the candidates."""
    step, token_id = found.nodes[-1].step, layer.ids[0]
    known: tuple[Step | Candidate, ...] = (step, *step.candidates)
    names = (each.name for each in known if each.token_id == token_id and each.name)
    return visible(layer.bytes[0], token_id, next(names, ""))


def _short(rank: int) -> str:
    """A rank in at most six characters."""
    return f"{rank:,}" if rank < 100_000 else f"{rank // 1000:,}k"


def curve(ranks: Sequence[int], cells: int) -> list[tuple[int, str]]:
    """A curve of at most `cells` cells: (index of the layer, block of the logarithm of its rank).

    Rank 1 is the lowest block, the worst rank of all layers the highest, or rank 10 if all are
    better.
    """
    n = len(ranks)
    wide = max(1, min(3, cells // n))
    count = min(n, cells)
    worst = math.log(max(*ranks, 10))
    indices = [round(i * (n - 1) / max(1, count - 1)) for i in range(count)]
    return [(i, BLOCKS[1 + round(7 * math.log(ranks[i]) / worst)] * wide) for i in indices]


def _curve(ranks: Sequence[int], at: int, width: int, styles: Styles) -> Row:
    """The rank of the token in the text from the first layer to the last."""
    left, right = f" rank by layer: {_short(ranks[0])} ", f" {_short(ranks[-1])}"
    room = width - len(left) - len(right)
    if room < 2:
        return []
    points = curve(ranks, room)
    here = min((index for index, _ in points), key=lambda index: abs(index - at))
    blocks = [Segment(text, styles.top if i == here else styles.guess) for i, text in points]
    return [Segment(left, styles.faint), *blocks, Segment(right, styles.faint)]
