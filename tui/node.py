"""Tokens of a tree, and what the reader says about its branches; no document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gpt.settings import Sampling
from gpt.step import Step
from gpt.typed_values import check, is_flag, is_text

if TYPE_CHECKING:
    from gpt.interventions import Intervention

Author = Literal["person", "template", "model"]
LONGEST_NAME = 80
LONGEST_NOTE = 1000


@dataclass(frozen=True, slots=True)
class Remark:
    """What the reader says about a branch. Texts that are too long are cut."""

    is_starred: bool = False
    name: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name[:LONGEST_NAME])
        object.__setattr__(self, "note", self.note[:LONGEST_NOTE])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"is_starred": self.is_starred, "name": self.name, "note": self.note}

    @classmethod
    def from_untrusted(cls, values: Any) -> Remark | None:
        """The reverse of to_dict, for values from a file, which may hold anything.

        None if there is none, or if it says nothing. Raises ValueError if it is not a remark.
        """
        if values is None:
            return None
        check(values, _REMARK)
        found = cls(**{name: values[name] for name in _REMARK})
        return found if found != NOTHING else None


_REMARK = {"is_starred": is_flag, "name": is_text, "note": is_text}
NOTHING = Remark()


@dataclass(slots=True, eq=False, repr=False)
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
    changes: tuple[Intervention, ...] = ()
    """What was changed inside the network when it was read or sampled."""
    remark: Remark | None = None
    """Of the branch that ended here when the reader made it; `holder` finds it again."""

    def __repr__(self) -> str:
        """Without the tokens after it: Textual describes each of its workers by the arguments."""
        return f"Node({self.step.position}, {self.step.text!r})"

    @property
    def author(self) -> Author:
        """Who wrote it: the person, the chat template around the person's message, or the model."""
        if self.step.by_template:
            return "template"
        return "person" if self.is_prompt else "model"

    def at_token(self, settings: Sampling) -> Sampling:
        """Settings as they act at this token: mirostat's mu depends on the tokens of its run.

        If mirostat aims at another surprisal now, a new run begins here.
        """
        then = self.sampling
        goes_on = then is not None and then.mirostat_tau == settings.mirostat_tau
        return replace(settings, mirostat_mu=self.step.mirostat_mu if goes_on else None)

    @property
    def origin(self) -> tuple[object, ...]:
        """The token and how it came there: all that its numbers depend on, in one text."""
        step = self.step
        return step.token_id, self.author, self.sampling, self.changes, step.mirostat_mu


class Branch(NamedTuple):
    """A way through the tree from a first token to a last one."""

    end: Node
    length: int
    """Number of tokens."""
    remark: Remark = NOTHING


def places_of(nodes: Iterable[Node]) -> dict[tuple[Intervention, ...], list[int]]:
    """What was changed inside the network → the indices of the tokens that came from it so."""
    found: dict[tuple[Intervention, ...], list[int]] = {}
    for index, node in enumerate(nodes):
        if node.changes:
            found.setdefault(node.changes, []).append(index)
    return found


def is_seam(nodes: Sequence[Node], index: int) -> bool:
    """Whether another network than that of the token before read or drew this token."""
    return nodes[index].changes != (nodes[index - 1].changes if index else ())


def in_common(one: Sequence[Node], other: Sequence[Node]) -> int:
    """Number of tokens before two paths of a tree part."""
    both = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] is pair[1], both))


def walk(roots: Iterable[Node]) -> Iterator[Node]:
    """These nodes and all after them, each one before its children."""
    waiting = list(roots)[::-1]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(node.children)


def branches(roots: Iterable[Node]) -> Iterator[Branch]:
    """All branches from these first tokens, in the order of the tree."""
    waiting: list[tuple[Node, int, Remark | None]] = []
    waiting += ((root, 1, None) for root in reversed(list(roots)))
    while waiting:
        node, length, remark = waiting.pop()
        remark = node.remark or remark
        if not node.children:
            yield Branch(node, length, remark or NOTHING)
        after = [
            (child, length + 1, None if i else remark) for i, child in enumerate(node.children)
        ]
        waiting += reversed(after)


def recent(node: Node) -> list[Node]:
    """A node and its most recent children, to the end of a branch."""
    found = [node]
    while node.children:
        node = node.children[min(node.last, len(node.children) - 1)]
        found.append(node)
    return found


def to_fork(node: Node) -> list[Node]:
    """A node and those after it, up to one that several follow, or none."""
    found = [node]
    while len(found[-1].children) == 1:
        found += found[-1].children
    return found


def first_line(node: Node) -> list[Node]:
    """A node and its first children, to the end of a branch."""
    found = [node]
    while node.children:
        node = node.children[0]
        found.append(node)
    return found


def whole(path: Sequence[Node]) -> list[Node]:
    """A path with the most recent children after it, to the end of a branch."""
    return [*path[:-1], *recent(path[-1])] if path else []


def parents(roots: Iterable[Node]) -> dict[Node, Node | None]:
    """Each node of a tree → the node before it."""
    found: dict[Node, Node | None] = dict.fromkeys(roots)
    for each in walk(list(found)):
        found |= dict.fromkeys(each.children, each)
    return found


def path_to(node: Node, parents: Mapping[Node, Node | None]) -> list[Node]:
    """The nodes from the first token to this one. Raises ValueError if it is not in the tree."""
    if node not in parents:
        raise ValueError("the node is not in this document")
    found: list[Node] = []
    each: Node | None = node
    while each:
        found.append(each)
        each = parents[each]
    return found[::-1]


def number(roots: Iterable[Node], path: Sequence[Node]) -> tuple[int, int]:
    """Which branch a path leads to, from 1 (0: the path is empty), and the number of branches."""
    shown = recent(path[-1])[-1] if path else None
    ends = [node for node in walk(roots) if not node.children]
    return (ends.index(shown) + 1 if shown else 0), len(ends)


# A remark stays on the token that was the last one when it was made, and belongs to the branch
# that was continued first from there. So it survives that the branch is continued, and a fork does
# not take it away. Nothing has to be done for a token that is added.


def holder(branch: Sequence[Node]) -> Node | None:
    """The node of a branch, from its first token to its last one, that has the branch's remark."""
    after: Node | None = None
    for node in reversed(branch):
        if after is not None and node.children[0] is not after:
            return None
        if node.remark:
            return node
        after = node
    return None


def remark(branch: Sequence[Node]) -> Remark:
    """What the reader says about a branch, from its first token to its last one."""
    kept = holder(branch)
    return (kept and kept.remark) or NOTHING


def settle(branch: Sequence[Node]) -> None:
    """Move the remark of a branch to its last token, before another branch may get its place."""
    kept = holder(branch)
    if kept and kept is not branch[-1]:
        branch[-1].remark, kept.remark = kept.remark, None


def before_deletion(before: Sequence[Node], node: Node, siblings: Sequence[Node]) -> None:
    """Decide what happens to the remark of a branch that is deleted from a node on.

    before: the nodes from the first token to the one before it. If other branches continue there,
    the remark goes with the branch. If not, the branch is only shortened, and keeps it.
    """
    line = first_line(node)
    if len(siblings) > 1:
        settle([*before, *line])
        return
    is_one = all(len(each.children) < 2 for each in line)
    kept = holder(line)
    if before and kept and is_one and before[-1].remark is None:
        before[-1].remark = kept.remark


def before_return(before: Sequence[Node], node: Node, siblings: Sequence[Node]) -> None:
    """Prepare the remarks for a node that comes back after a deletion among these siblings."""
    if siblings:
        settle([*before, *first_line(siblings[0])])
    kept = holder(first_line(node))
    if before and kept and before[-1].remark is kept.remark:
        before[-1].remark = None  # the branch has its own again


def same(node: Node, among: Iterable[Node]) -> Node | None:
    """The node among these with the same token from the same origin.

    Where the same token was drawn with other settings or another seed, it begins a branch, so that
    no branch changes the numbers of another one.
    """
    return next((each for each in among if each.origin == node.origin), None)


def join(node: Node, newer: Node) -> None:
    """Merge two branches that start with the same node; the older nodes stay.

    A deletion that can still be undone refers to older nodes, never to newer ones.
    """
    for each in reversed(list(walk([newer]))):
        if each.remark:
            settle(first_line(each))  # its children may not come first any more
    waiting = [(node, newer)]
    while waiting:
        node, newer = waiting.pop()
        node.is_marked |= newer.is_marked
        if newer.remark and not holder(first_line(node)[1:]):
            node.remark = newer.remark
        for child in newer.children:
            if twin := same(child, node.children):
                waiting.append((twin, child))
            else:
                node.children.append(child)
