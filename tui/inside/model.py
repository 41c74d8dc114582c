"""The model's picture: its blocks with shapes and sizes, and a token's way; asks no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from textwrap import wrap

from rich.segment import Segment

from gpt.interpret.architecture import Architecture, Weight, architecture
from gpt.interpret.looks import StreamNorms
from tui.bars import bar
from tui.heat import Scale, norm_scale
from tui.inside.place import Place, Question, of_drawn
from tui.inside.sheet import Looks, Row, Sheet
from tui.inside.view import InsideView
from tui.labels import fit
from tui.model_card import short_count

_NAME, _COUNT, _NORM = 34, 8, 9
"""Cells of the columns."""
_WORDS = {
    "embedding": "token embedding",
    "positions": "position embedding",
    "norm": "last norm",
    "output": "output matrix",
}
"""Group of weights outside the blocks → what a person calls it."""


def _question(place: Place) -> Question:
    return of_drawn(place, "norms", StreamNorms, ids=place.ids)


class ModelView(InsideView):
    """From the embedding to the output; the chosen block shows its weights."""

    NAME = "Model"
    TITLE = "Model: shapes, parameters, length of the stream"
    OF = "whose"
    HELP = "↑↓ layer · PgUp PgDn scroll"

    def questions(self, place: Place) -> Iterable[Question]:
        """The lengths of the stream; the rest is in the configuration."""
        return (_question(place),)

    def scale(self, place: Place) -> Scale | None:
        """The text by the length of the stream after the chosen layer."""
        found = self.answers.get(_question(place), StreamNorms)
        if found is None or not found.norms or not found.norms[0]:
            return None
        after = f"after layer {place.layer}" if place.layer else "after the embedding"
        norms = dict(enumerate(found.norms[place.layer], found.start))
        return norm_scale(f"Length of the residual stream {after}", norms)

    def step(self, place: Place, by: int) -> Place:
        """The block below or above, or the embedding."""
        return replace(place, layer=max(0, min(place.config.n_layer, place.layer + by)))

    def sheet(self, place: Place, looks: Looks) -> Sheet | None:
        """A row for each block, with the length of the stream after it."""
        found = self.answers.get(_question(place), StreamNorms)
        if found is None or not found.norms or not found.norms[0]:
            return None
        shape = architecture(place.config)
        norms = [row[-1] for row in found.norms]
        most = max(norms)
        columns = _line("part of the network", "parameters", "|stream|", looks)
        where = f"the stream {place.where}: {place.config.n_embd:,} wide"
        sheet = Sheet([[Segment(fit(where, looks.width), looks.faint)], columns])
        for layer, norm in enumerate(norms):
            is_here = layer == place.layer
            if is_here:
                sheet.at = len(sheet.body)
            shown = [w for w in shape.weights if w.layer == layer and _is_before(w)]
            name = f"layer {layer}" if layer else "embedding"
            sheet.body.append(_block(name, shown, (norm, most), looks, is_here=is_here))
            if is_here:
                sheet.body += [_weight(weight, looks) for weight in shown]
        after = [w for w in shape.weights if not w.layer and not _is_before(w)]
        sheet.body += [_weight(weight, looks) for weight in after]
        sheet.foot = _foot(shape, looks)
        return sheet

    def clicked(self, place: Place, x: int, row: int) -> None:
        """Choose the block under the mouse."""
        del x
        shape = architecture(place.config)
        opened = sum(w.layer == place.layer and _is_before(w) for w in shape.weights)
        layer = row if row <= place.layer else max(place.layer, row - opened)
        if 0 <= layer <= place.config.n_layer:
            self.choose(layer=layer)


def _is_before(weight: Weight) -> bool:
    """Whether a weight acts in a block or before the first one."""
    return bool(weight.layer) or weight.group in ("embedding", "positions")


def _line(name: str, count: str, norm: str, looks: Looks) -> Row:
    text = f"  {fit(name, _NAME - 2)} {count:>{_COUNT + 2}} {norm:>{_NORM}}"
    return [Segment(fit(text, looks.width), looks.faint)]


def _block(
    name: str, weights: Sequence[Weight], norm: tuple[float, float], looks: Looks, *, is_here: bool
) -> Row:
    """A block, the number of its parameters, and the length of the stream after it."""
    count = short_count(sum(weight.size for weight in weights))
    left = f"{'▸' if is_here else ' '} {fit(name, _NAME - 2)} {count:>{_COUNT + 2}}"
    left += f" {norm[0]:>{_NORM}.2f} "
    row = [Segment(fit(left, min(len(left), looks.width)), looks.here if is_here else looks.plain)]
    cells = looks.width - len(left)
    if cells > 2 and norm[1]:
        row.append(Segment(bar(norm[0] / norm[1], cells, looks.more).plain, looks.more))
    return row


def _weight(weight: Weight, looks: Looks) -> Row:
    """A matrix or a vector: its name, its shape and its size."""
    shape = " × ".join(f"{n:,}" for n in weight.shape)
    name = weight.name.partition(".")[2].partition(".")[2] if weight.layer else weight.name
    name = name.removesuffix(".weight")
    said = f"    {fit(name, _NAME - 20)} {shape:>15} {short_count(weight.size):>{_COUNT + 2}}"
    words = "" if weight.layer else f"  {_WORDS.get(weight.group, '')}"
    return [Segment(fit(said + words, looks.width), looks.faint)]


def _foot(shape: Architecture, looks: Looks) -> list[Row]:
    """All parameters, and what the shapes do not say."""
    said = f"{shape.n_params:,} parameters. {' '.join(shape.notes)}"
    lines = wrap(said, max(1, looks.width))
    room = 1 if looks.height < 16 else 4
    if len(lines) > room:
        lines[room - 1 :] = [" ".join(lines[room - 1 :])]
    return [[Segment(fit(line, looks.width), looks.faint)] for line in lines]
