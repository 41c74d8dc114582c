"""All branches of a document; a stretch without a fork is one line."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from gpt.sanitize import one_line
from tui.document import Document, Node
from tui.screens.dialog import Dialog

_LONGEST = 60


class TreeScreen(Dialog[Node | None]):
    """Returns the first token of the chosen branch, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+t", "dismiss(None)", "close", id="tree.close")
    ]

    def __init__(self, document: Document, here: Node) -> None:
        super().__init__()
        self._document, self._here = document, here

    def compose(self) -> ComposeResult:
        """The tree."""
        tree: Tree[Node] = Tree("text")
        tree.show_root = False
        tree.border_title = "Branches · Enter: go there"
        yield tree

    def on_mount(self) -> None:
        """Add all branches and move the cursor to the selected token's."""
        tree = self.query_one(Tree)
        on_path = set(self._document.path)
        waiting: list[tuple[TreeNode[Node], Node]] = [
            (tree.root, root) for root in reversed(self._document.roots)
        ]
        chosen: TreeNode[Node] | None = None
        while waiting:
            parent, first = waiting.pop()
            run = [first]
            while len(run[-1].children) == 1:
                run += run[-1].children
            children = run[-1].children
            label = _label(run, is_on_path=first in on_path)
            branch = parent.add(label, first, expand=True, allow_expand=bool(children))
            if self._here in run:
                chosen = branch
            waiting += [(branch, child) for child in reversed(children)]
        tree.focus()
        if chosen:
            self.call_after_refresh(tree.move_cursor, chosen)

    def on_tree_node_selected(self, event: Tree.NodeSelected[Node]) -> None:
        """Return the branch."""
        self.dismiss(event.node.data)


def _label(run: list[Node], *, is_on_path: bool) -> Text:
    """A stretch of tokens as a line: first words, number of tokens, mean surprisal."""
    text = b"".join(node.step.bytes for node in run[: 4 * _LONGEST]).decode("utf-8", "replace")
    shown = one_line(text)
    shown = shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"
    known = [node.step.logprob for node in run if node.step.logprob is not None]
    label = Text(shown, style="bold" if is_on_path else "")
    label.append(f"  {len(run)}", "dim")
    if any(node.is_marked for node in run):
        label.append(" ★")
    if known:
        label.append(f"  {-sum(known) / len(known):.2f} nats/token", "dim")
    return label
