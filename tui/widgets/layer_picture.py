"""What a picture of the layers is drawn from, and what is where in it; no widgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from rich.segment import Segment
from rich.style import Style

from gpt.interpret.answers import Layer
from gpt.sanitize import one_line
from tui.document import Node

Row = list[Segment]
BLOCKS = " ▁▂▃▄▅▆▇█"
"""Heights from 0 to 8 eighths of a cell."""
PERCENT = 7
"""Cells of a probability."""


@dataclass(frozen=True)
class Styles:
    """The looks of the parts."""

    plain: Style
    faint: Style
    """Headings."""
    guess: Style
    """The bar of a layer's best guess."""
    cell: Style
    """The weight that a head gives to a token."""
    top: Style
    """The same, of the token to which this head gives most."""
    here: Style
    """The chosen layer and head."""


@dataclass(frozen=True)
class Looks:
    """Size in cells and styles of a picture."""

    width: int
    height: int
    styles: Styles


class Attention:
    """The weights of one layer's heads over the context."""

    def __init__(self, heads: Sequence[Sequence[float]]) -> None:
        """heads: for each head, the weight of each token in the context."""
        self.heads = heads
        self._tops: dict[int, int] = {}

    @cached_property
    def _mean(self) -> Sequence[float]:
        n = len(self.heads)
        return tuple(total / n for total in map(sum, zip(*self.heads, strict=True)))

    def weights(self, head: int) -> Sequence[float]:
        """The weights of a head, counted from 1; 0 is the mean of all."""
        return self.heads[head - 1] if head else self._mean

    def top(self, index: int) -> int:
        """Index of the token to which a head gives most; index: the head, counted from 0."""
        if index not in self._tops:
            weights = self.heads[index]
            self._tops[index] = weights.index(max(weights))
        return self._tops[index]


@dataclass(frozen=True)
class Found:
    """The layers' answer about one token, and what the reader chose."""

    nodes: Sequence[Node]
    """The context, then the token."""
    layers: Sequence[Layer]
    at: int
    """Index of the chosen layer."""
    head: int
    """The chosen head, counted from 1; 0 is the mean of all."""
    attention: Attention

    def state(self, head: int) -> str:
        """What was changed in a head of the chosen layer when the token was drawn or read."""
        changes = self.nodes[-1].changes
        if not changes:
            return ""
        from gpt.interventions import head_state

        return head_state(changes, self.at, head)

    @property
    def titles(self) -> Sequence[str]:
        """Whose attention it is, from the longest way to say it to the shortest."""
        n, name = len(self.attention.heads), one_line(self.layers[self.at].name)
        if not n:
            return ["The embedding has no attention"]
        if self.head:
            which, short, state = (
                f"head {self.head} of {n}",
                f"head {self.head}",
                self.state(self.head),
            )
        else:
            off = sum(bool(self.state(head)) for head in range(1, n + 1))
            which, short = f"mean of {n} head{'s' * (n > 1)}", "mean"
            state = f"{'all' if off == n else off} not used" if off else ""
        which, short = (", ".join(filter(None, (each, state))) for each in (which, short))
        return [f"Attention of {name}, {which}", f"{name}, {which}", f"{name}, {short}"]


class Grid(NamedTuple):
    """Where the cells of the heads are."""

    x: int
    cells: int
    """Width of one head."""
    first: int
    """Index of the first head that is shown."""
    n_shown: int

    def head(self, x: int) -> int | None:
        """The head at a column, counted from 1."""
        index = (x - self.x) // self.cells
        return self.first + index + 1 if 0 <= index < self.n_shown else None


@dataclass
class Picture:
    """The rows of the panel, and what is where."""

    looks: Looks
    rows: list[Row] = field(default_factory=list)
    layers: dict[int, int] = field(default_factory=dict)
    """Row → index of the layer that it shows."""
    lens_width: int = 0
    heads_at: int = 0
    """First row of the attention."""
    heads_x: int = 0
    """First column of the attention."""
    grid: Grid | None = None

    def layer(self, x: int, y: int) -> int | None:
        """Index of the layer that is shown at this place."""
        return self.layers.get(y) if x < self.lens_width else None

    def head(self, x: int, y: int) -> int | None:
        """The head that is shown at this place; 0, the mean, at the title."""
        if self.grid is None or x < self.heads_x or y < self.heads_at:
            return None
        return 0 if y == self.heads_at else self.grid.head(x - self.heads_x)
