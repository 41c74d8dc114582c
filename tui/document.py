"""The text as a tree of tokens; it knows no widget and no model.

Going on from the middle of a text begins a branch and keeps what stood there before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gpt.settings import Sampling
from gpt.step import Step


@dataclass(slots=True, eq=False)
class Node:
    """One token at one place of the tree."""

    step: Step
    is_prompt: bool
    """Written by the person, not drawn by the model."""
    children: list[Node] = field(default_factory=list)
    last: int = 0
    """Which child was on the path most recently."""
    is_marked: bool = False
    """The reader's bookmark."""
    sampling: Sampling | None = None
    """The settings it was drawn with."""

    def become(self, newer: Node) -> None:
        """Take over what is said of the same token: the newest is of the newest settings."""
        self.step, self.is_prompt, self.sampling = newer.step, newer.is_prompt, newer.sampling


class Document:
    """A tree of tokens and the path through it that is on the screen."""

    def __init__(self) -> None:
        self.path: list[Node] = []
        """From the first token to the last one."""
        self._roots: list[Node] = []
        self._deleted: list[tuple[list[Node], int, Node]] = []
        """What stood before, the place among its siblings, and the branch."""

    @property
    def ids(self) -> list[int]:
        """The token ids of the path."""
        return [node.step.token_id for node in self.path]

    @property
    def text(self) -> str:
        """The path as text; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(node.step.bytes for node in self.path).decode("utf-8", "replace")

    def append(
        self, steps: Iterable[Step], *, is_prompt: bool, sampling: Sampling | None = None
    ) -> None:
        """Put tokens behind the path. The same token as in another branch joins that branch."""
        for step in steps:
            node = Node(step, is_prompt, sampling=sampling)
            siblings = self._siblings(len(self.path))
            if same := _same(node, siblings):
                same.become(node)
            else:
                siblings.append(node)
            self._step_to(same or node)

    def cut(self, length: int) -> None:
        """End the path after its first `length` tokens; what follows stays in the tree."""
        del self.path[length:]

    def branches(self, position: int) -> int:
        """How many continuations the tree has at this position of the path."""
        return len(self._siblings(position))

    def next_branch(self, position: int, by: int = 1) -> None:
        """Replace the path from this position on by another branch, followed to its end.

        by: 1 for the next one, -1 for the one before; they go round.
        """
        siblings = self._siblings(position)
        index = (siblings.index(self.path[position]) + by) % len(siblings)
        self.cut(position)
        self._follow(siblings[index])

    def delete(self, position: int) -> None:
        """Take the token at this position and all behind it out of the tree.

        The path goes on with what else stands there, if there is something.
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
        """Put back what was deleted last, and show it; False where nothing was.

        What was written anew in the meantime joins it where its tokens are the same.
        """
        if not self._deleted:
            return False
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
        """Make the path go through a node, and on as it went last; its position.

        Raises ValueError where the node is not in the tree.
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
        """All tokens of all branches, each before those behind it."""
        waiting = list(reversed(self._roots))
        while waiting:
            node = waiting.pop()
            yield node
            waiting += reversed(node.children)

    @property
    def roots(self) -> list[Node]:
        """The first tokens of all branches."""
        return self._roots

    def _show(self, nodes: list[Node]) -> None:
        self.path[:] = []
        for node in nodes:
            self._step_to(node)

    def _follow(self, node: Node) -> None:
        """Put a node behind the path, and what was on the path behind it most recently."""
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
        """Nats of the drawn tokens of the path by the model's own probabilities, and how many."""
        drawn = [node.step.logprob for node in self.path if not node.is_prompt]
        known = [logprob for logprob in drawn if logprob is not None]
        return -math.fsum(known), len(known)


def _same(node: Node, among: list[Node]) -> Node | None:
    """The one that is the same token."""
    return next((each for each in among if each.step.token_id == node.step.token_id), None)


def _join(node: Node, newer: Node) -> None:
    """Make one branch of two that begin with the same token; its nodes are the older ones.

    Deletions that can still be undone may stand behind an older node, but behind no newer one.
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
