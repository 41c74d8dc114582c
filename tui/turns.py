"""Turns of a conversation in a text: what the person wrote, and where an answer begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tui.node import Node


class Message(NamedTuple):
    """What a person wrote in one turn."""

    start: int
    """Index of the first token of the turn, which may be the template's."""
    tokens: range
    """Indices of the person's tokens."""


def message_at(path: Sequence[Node], index: int) -> Message | None:
    """The message to which a token belongs; None if it belongs to no turn, or to a system prompt.

    A candidate that the person chose inside an answer is not a message: the template does not go on
    after it.
    """
    if path[index].author != "person":
        return None
    first, last = index, index + 1
    while first and path[first - 1].author == "person":
        first -= 1
    while last < len(path) and path[last].author == "person":
        last += 1
    if last == len(path) or not path[last].step.by_template:
        return None
    if first and not (path[first - 1].step.by_template or path[first - 1].step.name):
        return None
    start = first
    while start and path[start - 1].step.by_template:
        start -= 1
    if all(node.author != "model" for node in path[:first]):
        if any(node.author == "person" for node in _before_answer(path)[last:]):
            return None  # the message comes later: this is the system prompt
        start = 0  # the template writes the whole beginning again
    return Message(start, range(first, last))


def system_prompt_at(path: Sequence[Node], index: int) -> bool:
    """Whether a token is a word of the system prompt: the template and a message come after it."""
    before = _before_answer(path)
    if index >= len(before) or path[index].author != "person":
        return False
    after = [node.author for node in before[index:]]
    return "template" in after and "person" in after[after.index("template") :]


def _before_answer(path: Sequence[Node]) -> Sequence[Node]:
    """The path up to the model's first token."""
    first = next((i for i, node in enumerate(path) if node.author == "model"), len(path))
    return path[:first]


def answer_start(path: Sequence[Node]) -> int | None:
    """Index of the first token of the last answer; None if the model has written nothing.

    After a chat template, everything is the answer; without one, the tokens that were sampled last.
    """
    last = next((i for i in reversed(range(len(path))) if path[i].author == "model"), None)
    if last is None:
        return None
    templates = (i for i in reversed(range(last)) if path[i].step.by_template)
    if (before := next(templates, None)) is not None:
        return before + 1
    start = last
    while start and path[start - 1].author == "model":
        start -= 1
    return start
