"""The text as a tree of tokens; it knows no widget and no model.

Going on from the middle of a text begins a branch and keeps what stood there before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

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


class Document:
    """A tree of tokens and the path through it that is on the screen."""

    def __init__(self) -> None:
        self.path: list[Node] = []
        """From the first token to the last one."""
        self._roots: list[Node] = []

    @property
    def ids(self) -> list[int]:
        """The token ids of the path."""
        return [node.step.token_id for node in self.path]

    @property
    def text(self) -> str:
        """The path as text; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(node.step.bytes for node in self.path).decode("utf-8", "replace")

    def append(self, steps: Iterable[Step], *, is_prompt: bool) -> None:
        """Put tokens behind the path. The same token as in another branch joins that branch."""
        for step in steps:
            siblings = self.path[-1].children if self.path else self._roots
            same = (i for i, node in enumerate(siblings) if node.step.token_id == step.token_id)
            index = next(same, len(siblings))
            if index == len(siblings):
                siblings.append(Node(step, is_prompt))
            else:
                # What is newest was asked with the newest settings.
                siblings[index].step, siblings[index].is_prompt = step, is_prompt
            if self.path:
                self.path[-1].last = index
            self.path.append(siblings[index])

    def cut(self, length: int) -> None:
        """End the path after its first `length` tokens; what follows stays in the tree."""
        del self.path[length:]

    def branches(self, position: int) -> int:
        """How many continuations the tree has at this position of the path."""
        return len(self._siblings(position))

    def next_branch(self, position: int) -> None:
        """Replace the path from this position on by the next branch, followed to its end."""
        siblings = self._siblings(position)
        index = (siblings.index(self.path[position]) + 1) % len(siblings)
        self.cut(position)
        if self.path:
            self.path[-1].last = index
        node = siblings[index]
        self.path.append(node)
        while node.children:
            node = node.children[node.last]
            self.path.append(node)

    def _siblings(self, position: int) -> list[Node]:
        return self.path[position - 1].children if position else self._roots

    def perplexity(self) -> float | None:
        """exp of the mean surprisal of the drawn tokens of the path, by the model's own
        probabilities; None where nothing was drawn."""
        drawn = [node.step.logprob for node in self.path if not node.is_prompt]
        known = [logprob for logprob in drawn if logprob is not None]
        return math.exp(-math.fsum(known) / len(known)) if known else None
