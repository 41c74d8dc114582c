"""The branches of a document as rows of a tree; no widgets.

A row is a run of tokens without a fork. A row after which nothing follows ends a branch.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from gpt.sanitize import one_line
from tui.changes import said, stretch
from tui.document import Document, Node
from tui.node import NOTHING, Remark, to_fork

if TYPE_CHECKING:
    from gpt.interventions import Intervention

DEEPEST = 12
"""Levels of the tree that are drawn; of a deeper row the last ones."""
_SHOWN = 1000
"""Characters of a row whose text is shown: more than a panel has cells."""
_MOST_NETWORKS = 2
"""Most changed networks that a title names."""
_WORD = 12
"""Most characters of a word before a fork."""


class Row(NamedTuple):
    """A run of tokens without a fork."""

    nodes: list[Node]
    guides: str
    """Lines to the rows above and below, two characters for each level."""
    word: str
    """The beginning of its first word, if that comes before the fork."""
    text: str
    """Its first words as one line, safe for a terminal."""
    ends: bool
    """A branch ends here; otherwise several continue."""
    remark: Remark
    """What the reader says about the branch; nothing if it does not end here."""
    is_shown: bool
    """It is on the path."""
    is_marked: bool
    """A token of it has a bookmark."""
    bits: float | None
    """Mean surprisal of a token; None if no probability is known."""
    inside: Mapping[tuple[Intervention, ...], int]
    """What was changed inside the network → for how many of its tokens."""


def rows(document: Document) -> list[Row]:
    """All rows, each one before those that follow it in the text."""
    on_path = set(document.path)
    remarks = {branch.end: branch.remark for branch in document.all_branches()}
    roots = document.roots
    found: list[Row] = []
    # A first token, the lines above its row, and whether other tokens follow in its place.
    waiting = [(root, "", i < len(roots) - 1, 0, "") for i, root in enumerate(roots)][::-1]
    while waiting:
        first, above, has_next, depth, before = waiting.pop()
        run = to_fork(first)
        children = run[-1].children
        own = ("├ " if has_next else "└ ") if depth else ""
        remark = remarks.get(run[-1], NOTHING)
        row = _row(run, _cut(above + own, depth), before, remark, is_shown=first in on_path)
        found.append(row)
        end = (before + _decoded(run[-_WORD:]))[-_WORD:]
        below = (above + ("│ " if has_next else "  ") * bool(depth))[-2 * DEEPEST :]
        after = [(c, below, i < len(children) - 1, depth + 1, end) for i, c in enumerate(children)]
        waiting += reversed(after)
    return found


def _row(run: list[Node], guides: str, before: str, remark: Remark, *, is_shown: bool) -> Row:
    text = _decoded(run[:_SHOWN])[:_SHOWN]
    is_cut = not (text[:1].isspace() or before[-1:].isspace())
    known = [node.step.logprob for node in run if node.step.logprob is not None]
    return Row(
        nodes=run,
        guides=guides,
        word=one_line("".join(before.split()[-1:])) if is_cut else "",
        text=_text(text),
        ends=not run[-1].children,
        remark=remark,
        is_shown=is_shown,
        is_marked=any(node.is_marked for node in run),
        bits=-math.fsum(known) / len(known) / math.log(2) if known else None,
        inside=Counter(node.changes for node in run if node.changes),
    )


def _decoded(nodes: list[Node]) -> str:
    return b"".join(node.step.added for node in nodes).decode("utf-8", "replace")


def _text(text: str) -> str:
    """As one line; one of blanks alone shows them."""
    return one_line(text) if text.strip() else text.replace("\n", "⏎").replace(" ", "·")


def _cut(guides: str, depth: int) -> str:
    """The last levels of a deep row, with a sign that there are more."""
    return guides if depth <= DEEPEST else "⋯ " + guides[-2 * DEEPEST + 2 :]


def title(document: Document) -> str:
    """Which branch is on the screen: "branch 2 of 3", with its star and its name; and how many of
    its tokens came from a changed network."""
    remark = document.remark
    name = "★" * remark.is_starred + f" {one_line(remark.name)}" * bool(remark.name)
    if document.branch_count > 1:
        name = f"branch {document.branch_number} of {document.branch_count} {name}"
    changed = [f"{stretch(at)}: {said(changes)}" for changes, at in document.inside.items()]
    if len(changed) > _MOST_NETWORKS:
        n = sum(map(len, document.inside.values()))
        changed = [f"{n} tokens: {len(changed)} changed networks"]
    return " · ".join(filter(None, (" ".join(name.split()), *changed)))
