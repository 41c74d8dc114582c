"""The text as a tree of tokens; no widgets, no model.

To continue from the middle of a text starts a branch and keeps the old continuation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from gpt.settings import Sampling
from gpt.step import Step
from tui import node as tree
from tui.dials import Setup
from tui.node import NOTHING, Branch, Remark, recent
from tui.node import Node as Node

if TYPE_CHECKING:
    from gpt.interventions import Intervention

T = TypeVar("T")


class Document:
    """A tree of tokens, and the path through it that is on the screen."""

    def __init__(self) -> None:
        self.system = ""
        """What the model was told before the first message of the conversation."""
        self.changes: tuple[Intervention, ...] = ()
        """What is changed inside the network when the model continues."""
        self.setup: Setup | None = None
        """The settings on the screen and the place of the reader; None if nobody has seen it."""
        self.path: list[Node] = []
        """Nodes from the first token to the last one."""
        self._roots: list[Node] = []
        self._deleted: list[tuple[list[Node], int, Node, bool]] = []
        """For each deletion: the path before it, the index among its siblings, the branch, and
        whether it was on the path."""
        self.version = 0
        """Increases with every change."""
        self._facts: dict[str, Any] = {}
        """Values computed for this version."""
        self._shape: dict[str, Any] = {}
        """Values that stay the same while the end of the path grows."""

    @property
    def ids(self) -> list[int]:
        """The token ids of the path. The list may be shared: nobody changes it."""
        return self._fact("ids", lambda: [node.step.token_id for node in self.path])

    @property
    def text(self) -> str:
        """The path as text; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(node.step.added for node in self.path).decode("utf-8", "replace")

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

    def branches(self, position: int) -> int:
        """Number of continuations that the tree has at this position of the path."""
        return len(self._siblings(position))

    def next_branch(self, position: int, by: int = 1) -> None:
        """Replace the path from this position on by another branch, followed to its end.

        by: 1 for the next branch, -1 for the previous one; after the last one comes the first.
        """
        siblings = self._siblings(position)
        index = (siblings.index(self.path[position]) + by) % len(siblings)
        self.cut(position)
        self._follow(siblings[index])

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

    def show(self, node: Node) -> int:
        """Make the path go through a node and follow its most recent children; its position.

        Raises ValueError if the node is not in the tree.
        """
        before = self.path_to(node)[:-1]
        self._show(before)
        self._follow(node)
        return len(before)

    def path_to(self, node: Node) -> list[Node]:
        """The nodes from the first token to this one.

        Raises ValueError if the node is not in the tree.
        """
        return tree.path_to(node, self._fact("parents", lambda: tree.parents(self._roots)))

    def nodes(self) -> Iterator[Node]:
        """All tokens of all branches, each one before its children."""
        return tree.walk(self._roots)

    @property
    def roots(self) -> list[Node]:
        """The first tokens of all branches."""
        return self._roots

    # Branches, and what the reader says about them.

    def branch(self, node: Node) -> list[Node]:
        """The nodes of the branch through this one that was on the path most recently."""
        return tree.whole(self.path_to(node))

    def all_branches(self) -> list[Branch]:
        """All branches, in the order of the tree."""
        return self._fact("branches", lambda: list(tree.branches(self._roots)))

    @property
    def branch_count(self) -> int:
        """Number of branches."""
        return self._number[1]

    @property
    def branch_number(self) -> int:
        """Which branch is on the screen, from 1 in the order of the tree; 0 without a text."""
        return self._number[0]

    @property
    def _number(self) -> tuple[int, int]:
        return self._of_shape("number", lambda: tree.number(self._roots, self.path))

    @property
    def remark(self) -> Remark:
        """What the reader says about the branch on the screen."""
        return self._of_shape("remark", lambda: tree.remark(tree.whole(self.path)))

    def remark_of(self, node: Node) -> Remark:
        """What the reader says about the branch of this node."""
        return tree.remark(self.branch(node))

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

    def next_mark(self, position: int) -> Node | None:
        """The next bookmarked token of any branch; after the last one, the first. None if none."""
        order = list(self.nodes())
        marks = [i for i, node in enumerate(order) if node.is_marked]
        here = order.index(self.path[position])
        after = next((i for i in marks if i > here), marks[0] if marks else None)
        return None if after is None else order[after]

    @property
    def inside(self) -> Mapping[tuple[Intervention, ...], Sequence[int]]:
        """What was changed inside the network → indices of the tokens that came from it so."""
        return self._fact("inside", lambda: tree.places_of(self.path))

    def fork(self, position: int) -> int | None:
        """The last position of the path, at most this one, that has another branch."""
        return next((i for i in range(position, -1, -1) if self.branches(i) > 1), None)

    def first_drawn(self, position: int) -> int | None:
        """Position of the first sampled token of the path, not before this one."""
        places = range(position, len(self.path))
        return next((i for i in places if self.path[i].sampling is not None), None)

    # Every key press asks for these, so they are computed once per version.

    @property
    def can_undo(self) -> bool:
        """Whether a deletion can be undone."""
        return bool(self._deleted)

    @property
    def has_marks(self) -> bool:
        """Whether any token has a bookmark."""
        return self._fact("marks", lambda: any(node.is_marked for node in self.nodes()))

    def has_fork(self, position: int) -> bool:
        """Whether the tree has another branch at this position of the path or before it."""
        length = len(self.path)
        first = self._fact(
            "fork", lambda: next((i for i in range(length) if self.branches(i) > 1), length)
        )
        return first <= position

    def has_drawn(self, position: int) -> bool:
        """Whether a model sampled this token of the path or one after it."""
        places = range(len(self.path) - 1, -1, -1)
        last = self._fact(
            "drawn", lambda: next((i for i in places if self.path[i].sampling is not None), -1)
        )
        return position <= last

    def _changed(self, *, grows: bool = False) -> None:
        """grows: only the last token of the path gets tokens after it, and had none."""
        self.version += 1
        self._facts.clear()
        if not grows:
            self._shape.clear()

    def _fact(self, name: str, compute: Callable[[], T]) -> T:
        if name not in self._facts:
            self._facts[name] = compute()
        return cast(T, self._facts[name])

    def _of_shape(self, name: str, compute: Callable[[], T]) -> T:
        if name not in self._shape:
            self._shape[name] = compute()
        return cast(T, self._shape[name])

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

    def _siblings(self, position: int) -> list[Node]:
        return self.path[position - 1].children if position else self._roots

    def surprisal(self) -> tuple[float, int, bool]:
        """Total nats of the sampled tokens of the path at temperature 1, their number, and True.

        If none was sampled, nats and number of all tokens, and False: somebody reads a text.
        """
        return self._fact("surprisal", self._surprisal)

    def _surprisal(self) -> tuple[float, int, bool]:
        drawn = [node.step.logprob for node in self.path if not node.is_prompt]
        found = drawn or [node.step.logprob for node in self.path]
        known = [logprob for logprob in found if logprob is not None]
        return -math.fsum(known), len(known), bool(drawn)


def _place(siblings: Sequence[Node], older: Container[Node] | None) -> int:
    """Index of a new token among its siblings: the last, or after only the older ones."""
    newer = (i for i, each in enumerate(siblings) if older is not None and each not in older)
    return next(newer, len(siblings))
