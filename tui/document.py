"""The text as a tree of tokens; no widgets, no model.

To continue from the middle of a text starts a branch and keeps the old continuation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from gpt.settings import Sampling
from gpt.step import Step

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Node:
    """One token at one position of the tree."""

    step: Step
    is_prompt: bool
    """The person wrote it; otherwise a model sampled it."""
    children: list[Node] = field(default_factory=list)
    last: int = 0
    """Index of the child that was on the path most recently."""
    is_marked: bool = False
    """The reader's bookmark."""
    sampling: Sampling | None = None
    """The settings it was sampled with."""

    def become(self, newer: Node) -> None:
        """Copy the numbers of a newer node with the same token: they are of the newest settings."""
        self.step, self.is_prompt, self.sampling = newer.step, newer.is_prompt, newer.sampling


class Document:
    """A tree of tokens, and the path through it that is on the screen."""

    def __init__(self) -> None:
        self.path: list[Node] = []
        """Nodes from the first token to the last one."""
        self._roots: list[Node] = []
        self._deleted: list[tuple[list[Node], int, Node]] = []
        """For each deletion: the path before it, the index among its siblings, and the branch."""
        self.version = 0
        """Increases with every change."""
        self._facts: dict[str, Any] = {}
        """Values computed for this version."""

    @property
    def ids(self) -> list[int]:
        """The token ids of the path."""
        return [node.step.token_id for node in self.path]

    @property
    def text(self) -> str:
        """The path as text; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(node.step.bytes for node in self.path).decode("utf-8", "replace")

    def append(
        self, steps: Iterable[Step], *, is_prompt: bool, sampling: Sampling | None = None
    ) -> None:
        """Add tokens after the path. If another branch has the same token, the path joins it."""
        self._changed()
        for step in steps:
            node = Node(step, is_prompt, sampling=sampling)
            siblings = self._siblings(len(self.path))
            if same := _same(node, siblings):
                same.become(node)
            else:
                siblings.append(node)
            self._step_to(same or node)

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
        self._deleted.append((self.path[:position], index, siblings.pop(index)))
        self.cut(position)
        if self.path:
            self.path[-1].last = 0
        if siblings:
            self._follow(siblings[min(index, len(siblings) - 1)])

    def undo(self) -> bool:
        """Restore the latest deletion and show it; False if nothing was deleted.

        Text that was written since then joins it wherever the tokens are the same.
        """
        if not self._deleted:
            return False
        self._changed()
        before, index, node = self._deleted.pop()
        self._show(before)
        siblings = self._siblings(len(before))
        if same := _same(node, siblings):
            siblings.remove(same)
            _join(node, same)
        siblings.insert(index, node)
        self._follow(node)
        return True

    def show(self, node: Node) -> int:
        """Make the path go through a node and follow its most recent children; its position.

        Raises ValueError if the node is not in the tree.
        """
        parents: dict[Node, Node | None] = dict.fromkeys(self._roots)
        for each in self.nodes():
            parents |= dict.fromkeys(each.children, each)
        if node not in parents:
            raise ValueError("the node is not in this document")
        before: list[Node] = []
        parent = parents[node]
        while parent:
            before.append(parent)
            parent = parents[parent]
        self._show(before[::-1])
        self._follow(node)
        return len(before)

    def nodes(self) -> Iterator[Node]:
        """All tokens of all branches, each one before its children."""
        waiting = list(reversed(self._roots))
        while waiting:
            node = waiting.pop()
            yield node
            waiting += reversed(node.children)

    @property
    def roots(self) -> list[Node]:
        """The first tokens of all branches."""
        return self._roots

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

    def _changed(self) -> None:
        self.version += 1
        self._facts.clear()

    def _fact(self, name: str, compute: Callable[[], T]) -> T:
        if name not in self._facts:
            self._facts[name] = compute()
        return cast(T, self._facts[name])

    def _show(self, nodes: list[Node]) -> None:
        self.cut(0)
        for node in nodes:
            self._step_to(node)

    def _follow(self, node: Node) -> None:
        """Add a node after the path, then its most recent children."""
        self._step_to(node)
        while node.children:
            node = node.children[min(node.last, len(node.children) - 1)]
            self._step_to(node)

    def _step_to(self, node: Node) -> None:
        if self.path:
            self.path[-1].last = self.path[-1].children.index(node)
        self.path.append(node)

    def _siblings(self, position: int) -> list[Node]:
        return self.path[position - 1].children if position else self._roots

    def surprisal(self) -> tuple[float, int]:
        """Total nats of the sampled tokens of the path at temperature 1, and their number."""
        return self._fact("surprisal", self._surprisal)

    def _surprisal(self) -> tuple[float, int]:
        drawn = [node.step.logprob for node in self.path if not node.is_prompt]
        known = [logprob for logprob in drawn if logprob is not None]
        return -math.fsum(known), len(known)


def _same(node: Node, among: list[Node]) -> Node | None:
    """The node among these that has the same token."""
    return next((each for each in among if each.step.token_id == node.step.token_id), None)


def _join(node: Node, newer: Node) -> None:
    """Merge two branches that start with the same token; the older nodes stay.

    A deletion that can still be undone refers to older nodes, never to newer ones.
    """
    waiting = [(node, newer)]
    while waiting:
        node, newer = waiting.pop()
        node.become(newer)
        node.is_marked |= newer.is_marked
        for child in newer.children:
            if same := _same(child, node.children):
                waiting.append((same, child))
            else:
                node.children.append(child)
