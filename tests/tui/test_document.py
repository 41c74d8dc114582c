from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.step import Step
from tui.document import Document, Node


def step(token_id: int, logprob: float | None = -1.0) -> Step:
    return Step(0, token_id, bytes([97 + token_id]), chr(97 + token_id), logprob)


def tokens(*ids: int) -> list[Step]:
    return [step(i) for i in ids]


def all_nodes(document: Document) -> set[Node]:
    found, todo = set(), list(document._roots)
    while todo:
        node = todo.pop()
        found.add(node)
        todo += node.children
    return found


def test_a_branch_keeps_what_stood_there() -> None:
    document = Document()
    document.append(tokens(0, 1), is_prompt=True)
    document.append(tokens(2, 3), is_prompt=False)
    document.cut(2)
    document.append(tokens(4), is_prompt=False)
    assert document.text == "abe"
    assert document.branches(2) == 2
    document.next_branch(2)
    assert document.text == "abcd"
    document.next_branch(2)
    assert document.text == "abe"


def test_the_same_token_joins_its_branch() -> None:
    document = Document()
    document.append(tokens(0, 1, 2), is_prompt=False)
    document.cut(1)
    document.append(tokens(1), is_prompt=False)
    assert len(all_nodes(document)) == 3
    document.next_branch(1)
    assert document.text == "abc"


def test_perplexity_is_of_drawn_tokens_only() -> None:
    document = Document()
    document.append([step(0, None), step(1, -9.0)], is_prompt=True)
    assert document.perplexity() is None
    document.append([step(0, math.log(0.5)), step(1, math.log(0.125))], is_prompt=False)
    assert document.perplexity() == pytest.approx(4.0)


@given(st.lists(st.tuples(st.sampled_from(["append", "cut", "branch"]), st.integers(0, 5))))
def test_no_edit_loses_a_token(edits: list[tuple[str, int]]) -> None:
    document = Document()
    known: set[Node] = set()
    for action, n in edits:
        if action == "append":
            document.append(tokens(n, (n + 1) % 6), is_prompt=False)
        elif action == "cut":
            document.cut(min(n, len(document.path)))
        elif n < len(document.path):
            before = document.path[:n]
            document.next_branch(n)
            assert document.path[:n] == before
        now = all_nodes(document)
        assert known <= now
        assert set(document.path) <= now
        known = now
        for parent, child in zip(document.path, document.path[1:], strict=False):
            assert parent.children[parent.last] is child
