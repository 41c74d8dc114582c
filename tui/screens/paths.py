"""The most probable continuations as a tree, any part of which can be taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from gpt.waterfall import LikelyPath
from tui.screens.dialog import Dialog
from tui.widgets.inspector import percent, visible


class PathsScreen(Dialog[list[int] | None]):
    """Gives the ids from the root to the chosen token, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back", id="paths.back")
    ]

    def __init__(self, paths: Sequence[LikelyPath]) -> None:
        super().__init__()
        self._paths = paths

    def compose(self) -> ComposeResult:
        """The tree alone."""
        tree: Tree[list[int]] = Tree("here")
        tree.show_root = False
        tree.border_title = "most likely paths: a beam, by the model's own probabilities"
        tree.border_subtitle = "Enter takes the path up to there"
        yield tree

    def on_mount(self) -> None:
        """Paths that begin alike share their beginning."""
        tree: Tree[list[int]] = self.query_one(Tree)
        places: dict[tuple[int, ...], TreeNode[list[int]]] = {(): tree.root}
        for path in self._paths:
            for n in range(1, len(path.ids) + 1):
                ids = path.ids[:n]
                if ids not in places:
                    label = _label(path, n)
                    places[ids] = places[ids[:-1]].add(label, list(ids), expand=True)
        for place in places.values():
            place.allow_expand = bool(place.children)
        tree.focus()

    def on_tree_node_selected(self, event: Tree.NodeSelected[list[int]]) -> None:
        """Take it."""
        self.dismiss(event.node.data)


def _label(path: LikelyPath, n: int) -> Text:
    """A token, its own probability, and that of the whole path to it."""
    label = Text(visible(path.bytes[n - 1], path.ids[n - 1]))
    label.append(f"  {percent(math.exp(path.logprobs[n - 1]))}", "dim")
    if n > 1:
        label.append(f"  together {percent(math.exp(math.fsum(path.logprobs[:n])))}", "dim")
    return label
