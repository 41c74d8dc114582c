"""A tree of tokens with a path through it, and what can be known of them; no widgets, no model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tui import node as tree
from tui.node import Branch, Node, Remark

if TYPE_CHECKING:
    from gpt.interventions import Intervention

T = TypeVar("T")


class TreeFacts:
    """A tree, the path through it that is on the screen, and questions about both.

    Every key press asks several of them, so each is computed once for a version.
    """

    def __init__(self) -> None:
        self.path: list[Node] = []
        """Nodes from the first token to the last one."""
        self.version = 0
        """Increases with every change."""
        self._roots: list[Node] = []
        self._facts: dict[str, Any] = {}
        """Values computed for this version."""
        self._shape: dict[str, Any] = {}
        """Values that stay the same while the end of the path grows."""

    # The text on the path.

    @property
    def ids(self) -> list[int]:
        """The token ids of the path. The list may be shared: nobody changes it."""
        return self._fact("ids", lambda: [node.step.token_id for node in self.path])

    @property
    def text(self) -> str:
        """The path as text; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(node.step.added for node in self.path).decode("utf-8", "replace")

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

    @property
    def n_networks(self) -> int:
        """By how many different networks the tokens of `surprisal` were drawn or read."""

        def count() -> int:
            drawn = {node.changes for node in self.path if not node.is_prompt}
            return len(drawn or {node.changes for node in self.path})

        return self._fact("networks", count)

    @property
    def inside(self) -> Mapping[tuple[Intervention, ...], Sequence[int]]:
        """What was changed inside the network → indices of the tokens that came from it so."""
        return self._fact("inside", lambda: tree.places_of(self.path))

    def first_drawn(self, position: int) -> int | None:
        """Position of the first sampled token of the path, not before this one."""
        places = range(position, len(self.path))
        return next((i for i in places if self.path[i].sampling is not None), None)

    def has_drawn(self, position: int) -> bool:
        """Whether a model sampled this token of the path or one after it."""
        places = range(len(self.path) - 1, -1, -1)
        last = self._fact(
            "drawn", lambda: next((i for i in places if self.path[i].sampling is not None), -1)
        )
        return position <= last

    # The tree.

    def nodes(self) -> Iterator[Node]:
        """All tokens of all branches, each one before its children."""
        return tree.walk(self._roots)

    @property
    def roots(self) -> list[Node]:
        """The first tokens of all branches."""
        return self._roots

    def path_to(self, node: Node) -> list[Node]:
        """The nodes from the first token to this one.

        Raises ValueError if the node is not in the tree.
        """
        return tree.path_to(node, self._fact("parents", lambda: tree.parents(self._roots)))

    def branches(self, position: int) -> int:
        """Number of continuations that the tree has at this position of the path."""
        return len(self._siblings(position))

    def fork(self, position: int) -> int | None:
        """The last position of the path, at most this one, that has another branch."""
        return next((i for i in range(position, -1, -1) if self.branches(i) > 1), None)

    def has_fork(self, position: int) -> bool:
        """Whether the tree has another branch at this position of the path or before it."""
        length = len(self.path)
        first = self._fact(
            "fork", lambda: next((i for i in range(length) if self.branches(i) > 1), length)
        )
        return first <= position

    @property
    def has_marks(self) -> bool:
        """Whether any token has a bookmark."""
        return self._fact("marks", lambda: any(node.is_marked for node in self.nodes()))

    def next_mark(self, position: int) -> Node | None:
        """The next bookmarked token of any branch; after the last one, the first. None if none."""
        order = list(self.nodes())
        marks = [i for i, node in enumerate(order) if node.is_marked]
        here = order.index(self.path[position])
        after = next((i for i in marks if i > here), marks[0] if marks else None)
        return None if after is None else order[after]

    # Its branches, and what the reader says about them.

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

    # What is computed once.

    def _siblings(self, position: int) -> list[Node]:
        return self.path[position - 1].children if position else self._roots

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
