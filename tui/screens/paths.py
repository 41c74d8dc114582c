"""The most probable continuations as a tree; asks no model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from gpt.interpret.answers import LikelyPath
from tui.labels import percent, visible
from tui.screens.dialog import Dialog


class PathsScreen(Dialog[list[int] | None]):
    """Returns the ids from the root to the chosen token, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back", id="paths.back")
    ]

    def __init__(self, paths: Sequence[LikelyPath], of_network: str = "") -> None:
        """of_network: whose continuations they are, if something is changed inside."""
        super().__init__()
        self._paths = paths
        self._of_network = of_network

    def compose(self) -> ComposeResult:
        """The tree."""
        tree: Tree[list[int]] = Tree("here")
        tree.show_root = False
        how = f", {self._of_network}" if self._of_network else " (beam search)"
        tree.border_title = f"Likely continuations{how}"
        tree.border_subtitle = "Enter: use the text up to here · Esc: back"
        yield tree

    def on_mount(self) -> None:
        """Add the paths; paths with the same beginning share it. The most probable token of each
        place comes first."""
        tree: Tree[list[int]] = self.query_one(Tree)
        places: dict[tuple[int, ...], TreeNode[list[int]]] = {(): tree.root}
        ends = {path.ids[:n]: path for path in self._paths for n in range(1, len(path.ids) + 1)}

        def order(ids: tuple[int, ...]) -> tuple[int, float]:
            return len(ids), -ends[ids].logprobs[len(ids) - 1]

        for ids in sorted(ends, key=order):
            label = _label(ends[ids], len(ids))
            places[ids] = places[ids[:-1]].add(label, list(ids), expand=True)
        for place in places.values():
            place.allow_expand = bool(place.children)
        tree.focus()

    def on_tree_node_selected(self, event: Tree.NodeSelected[list[int]]) -> None:
        """Return the path."""
        self.dismiss(event.node.data)


def _label(path: LikelyPath, n: int) -> Text:
    """A token, its probability, and the probability of the path up to it."""
    label = Text(visible(path.bytes[n - 1], path.ids[n - 1]))
    label.append(f"  {percent(math.exp(path.logprobs[n - 1]))}", "dim")
    if n > 1:
        label.append(f"  total {percent(math.exp(math.fsum(path.logprobs[:n])))}", "dim")
    return label
