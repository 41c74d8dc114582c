"""Each layer's guess (logit lens) and its attention; asks no model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import getters
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import DataTable

from gpt.interpret.answers import Layer
from gpt.step import Step
from tui.document import Node
from tui.heat import STEPS, Scale
from tui.labels import percent, visible
from tui.screens.dialog import Page
from tui.widgets.hints import Hints
from tui.widgets.token_view import TokenView


class LayersScreen(Page):
    """A row for each layer; the text below is coloured by that layer's attention."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back to the text", id="inside.back"),
        Binding("right", "head(1)", "next head", priority=True, id="inside.next"),
        Binding("left", "head(-1)", "previous head", priority=True, id="inside.last"),
    ]

    table = getters.query_one(DataTable)
    view = getters.query_one(TokenView)

    def __init__(self, nodes: Sequence[Node], layers: Sequence[Layer]) -> None:
        super().__init__()
        self._path = nodes
        """The context, then the token after it."""
        self._layers = layers
        self._head = 0
        """0: the mean of all heads; 1: the first head."""

    def compose(self) -> ComposeResult:
        """The layers above the text."""
        with Vertical() as panel:
            panel.border_title = "Layers: each layer's guess (logit lens)"
            yield DataTable(cursor_type="row")
        yield TokenView()
        yield Hints()

    def on_mount(self) -> None:
        """Fill the table and the text; the last row is the model's own output."""
        step = self._path[-1].step
        name = visible(step.bytes, step.token_id)
        for title in ("After", f'P("{name}")', "Rank", "Top guesses"):
            self.table.add_column(Text(title))
        for layer in self._layers:
            best = "  ".join(
                f"{visible(data, i)} {percent(math.exp(logprob))}"
                for i, data, logprob in zip(layer.ids, layer.bytes, layer.logprobs, strict=True)
            )
            own = percent(math.exp(layer.chosen_logprob))
            self.table.add_row(
                Text(layer.name),
                Text(own, justify="right"),
                Text(f"{layer.chosen_rank:,}", justify="right"),
                Text(best),
            )
        self.view.show(self._path)
        self.table.move_cursor(row=len(self._layers) - 1)
        self.table.focus()
        self._colour()

    def on_data_table_row_highlighted(self) -> None:
        """Show the attention of another layer."""
        self._colour()

    def action_head(self, by: int) -> None:
        """Show another head of the layer, or the mean of all."""
        self._head += by
        self._colour()

    def _colour(self) -> None:
        layer = self._layers[self.table.cursor_row]
        n_heads, weights = len(layer.attention), tuple[float, ...]()
        if not n_heads:
            title = "The embedding has no attention"
        elif head := self._head % (n_heads + 1):
            title, weights = (
                f"Attention of {layer.name}, head {head} of {n_heads}",
                layer.attention[head - 1],
            )
        else:
            title = f"Attention of {layer.name}, mean of {n_heads} heads"
            weights = tuple(
                math.fsum(column) / n_heads for column in zip(*layer.attention, strict=True)
            )
        self.view.set_scale(attention_scale(title, self._path, weights))


def attention_scale(title: str, nodes: Sequence[Node], weights: Sequence[float]) -> Scale:
    """A scale by attention weights, of the last tokens before the selected one."""
    first = len(nodes) - 1 - len(weights)
    by_position = {
        node.step.position: weight for node, weight in zip(nodes[first:-1], weights, strict=True)
    }

    def heat(step: Step) -> int:
        return attention_heat(by_position.get(step.position, 0.0))

    legend = {f"{100 * w:g} %": attention_heat(w) for w in (0.01, 0.05, 0.2, 0.5, 1)}
    return Scale(title, heat, legend)


def attention_heat(weight: float) -> int:
    """Heat by the square root, so that small weights differ: 1 % is 1, 100 % is 15."""
    return max(0, min(STEPS - 1, int((STEPS - 1) * math.sqrt(weight) + 0.5)))
