"""The text as a tree of tokens that grows; no widgets, no model.

To continue from the middle of a text starts a branch and keeps the old continuation.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import TYPE_CHECKING

from gpt.settings import Sampling
from gpt.step import Step
from tui import node as tree
from tui.dials import Setup
from tui.node import NOTHING, Remark, recent
from tui.node import Node as Node
from tui.tree_facts import TreeFacts

if TYPE_CHECKING:
    from gpt.interventions import Intervention


class Document(TreeFacts):
    """A tree of tokens, the path through it that is on the screen, and how both change."""

    def __init__(self) -> None:
        super().__init__()
        self.system = ""
        """What the model was told before the first message of the conversation."""
        self.changes: tuple[Intervention, ...] = ()
        """What is changed inside the network when the model continues."""
        self.setup: Setup | None = None
        """The settings on the screen and the place of the reader; None if nobody has seen it."""
        self._deleted: list[tuple[list[Node], int, Node, bool]] = []
        """For each deletion: the path before it, the index among its siblings, the branch, and
        whether it was on the path."""

    def append(
        self,
        steps: Iterable[Step],
        *,
        is_prompt: bool,
        sampling: Sampling | None = None,
        changes: tuple[Intervention, ...] = (),
        after: Node | None = None,
        older: Container[Node] | None = None,
    ) -> Node | None:
        """Add tokens after the path. If another branch has the same token of the same origin, they
        join it.

        after: add them after this token of any branch instead, and leave the path as it is. older:
        they come before all their siblings but these. Returns the last token of them.
        """
        end = after or (self.path[-1] if self.path else None)
        self._changed(grows=end is not None and not end.children)
        for step in steps:
            node = Node(step, is_prompt, sampling=sampling, changes=changes)
            siblings = end.children if end else self._roots
            same = tree.same(node, siblings)
            if same is None:
                siblings.insert(_place(siblings, older), node)
            end = same or node
            if after is None:
                self._step_to(end)
        return end

    def cut(self, length: int) -> None:
        """End the path after its first `length` tokens; the rest stays in the tree."""
        self._changed()
        del self.path[length:]

    def next_branch(self, position: int, by: int = 1) -> None:
        """Replace the path from this position on by another branch, followed to its end.

        by: 1 for the next branch, -1 for the previous one; after the last one comes the first.
        """
        siblings = self._siblings(position)
        index = (siblings.index(self.path[position]) + by) % len(siblings)
        self.cut(position)
        self._follow(siblings[index])

    def show(self, node: Node) -> int:
        """Make the path go through a node and follow its most recent children; its position.

        Raises ValueError if the node is not in the tree.
        """
        before = self.path_to(node)[:-1]
        self._show(before)
        self._follow(node)
        return len(before)

    def delete(self, position: int) -> None:
        """Remove the token at this position and everything after it from the tree.

        If there is another branch at this position, the path continues with it.
        """
        siblings = self._siblings(position)
        index = siblings.index(self.path[position])
        self._take_out(self.path[:position], siblings, index, was_shown=True)
        self.cut(position)
        if self.path:
            self.path[-1].last = 0
        if siblings:
            self._follow(siblings[min(index, len(siblings) - 1)])

    def remove(self, node: Node) -> None:
        """Remove a token of any branch and everything after it; the path stays if it can."""
        before = self.path_to(node)[:-1]
        if node in self.path:
            self.delete(len(before))
            return
        self._changed()
        siblings = before[-1].children if before else self._roots
        index = siblings.index(node)
        self._take_out(before, siblings, index, was_shown=False)
        if before and before[-1].last >= index:
            before[-1].last = max(0, before[-1].last - 1)

    def _take_out(
        self, before: list[Node], siblings: list[Node], index: int, *, was_shown: bool
    ) -> None:
        tree.before_deletion(before, siblings[index], siblings)
        self._deleted.append((before, index, siblings.pop(index), was_shown))

    @property
    def can_undo(self) -> bool:
        """Whether a deletion can be undone."""
        return bool(self._deleted)

    def undo(self) -> bool:
        """Restore the latest deletion; False if nothing was deleted.

        It is shown if it was on the path. Text that was written since then joins it wherever it is
        the same.
        """
        if not self._deleted:
            return False
        self._changed()
        before, index, node, was_shown = self._deleted.pop()
        here, length = self.path[-1:], len(self.path)
        self._show(before)
        siblings = self._siblings(len(before))
        tree.before_return(before, node, siblings)
        if same := tree.same(node, siblings):
            siblings.remove(same)
            tree.join(node, same)
        siblings.insert(index, node)
        self._follow(node)
        self._changed()
        if not was_shown and all(node in self.nodes() for node in here):  # it may have been joined
            for node in here:
                self.show(node)
            self.cut(length)
        return True

    def set_remark(self, node: Node, remark: Remark) -> None:
        """Replace what the reader says about the branch of this node."""
        branch = self.branch(node)
        self._changed()
        kept = tree.holder(branch) or branch[-1]
        kept.remark = remark if remark != NOTHING else None

    def toggle_mark(self, position: int) -> bool:
        """Set or remove the bookmark of a token of the path; returns whether it is set now."""
        self._changed()
        self.path[position].is_marked ^= True
        return self.path[position].is_marked

    def _show(self, nodes: list[Node]) -> None:
        self.cut(0)
        for node in nodes:
            self._step_to(node)

    def _follow(self, node: Node) -> None:
        """Add a node after the path, then its most recent children."""
        for each in recent(node):
            self._step_to(each)

    def _step_to(self, node: Node) -> None:
        if self.path:
            self.path[-1].last = self.path[-1].children.index(node)
        self.path.append(node)


def _place(siblings: Sequence[Node], older: Container[Node] | None) -> int:
    """Index of a new token among its siblings: the last, or after only the older ones."""
    newer = (i for i, each in enumerate(siblings) if older is not None and each not in older)
    return next(newer, len(siblings))
