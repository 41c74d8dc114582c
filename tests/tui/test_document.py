from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpt.interventions import Edge
from gpt.settings import Sampling
from gpt.step import Step
from tui.document import Document, Node
from tui.node import LONGEST_NAME, NOTHING, Remark


def step(token_id: int, logprob: float | None = -1.0) -> Step:
    return Step(0, token_id, bytes([97 + token_id]), chr(97 + token_id), logprob)


def tokens(*ids: int) -> list[Step]:
    return [step(i) for i in ids]


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


def test_the_same_token_of_the_same_origin_joins_its_branch() -> None:
    document = Document()
    document.append(tokens(0, 1, 2), is_prompt=False, sampling=Sampling(seed=3))
    document.cut(1)
    document.append(tokens(1), is_prompt=False, sampling=Sampling(seed=3))
    assert len(set(document.nodes())) == 3
    document.next_branch(1)
    assert document.text == "abc"


@pytest.mark.parametrize(
    "other",
    [
        {"sampling": Sampling(seed=4)},
        {"sampling": Sampling(seed=3, temperature=1.5)},
        {"sampling": Sampling(seed=3), "changes": (Edge(source=0),)},
        {"is_prompt": True},
    ],
)
def test_no_branch_changes_the_numbers_of_another_one(other: dict[str, Any]) -> None:
    document = Document()
    drawn: dict[str, Any] = {"is_prompt": False, "sampling": Sampling(seed=3)}
    document.append([step(0)], is_prompt=True)
    document.append([step(1, -2.0), step(2, -3.0)], **drawn)
    before = [replace(node) for node in document.path]
    document.cut(1)
    document.append([step(1, -0.5), step(2, -0.25)], **{"sampling": None, **drawn, **other})
    assert document.branches(1) == 2
    assert [node.step.logprob for node in document.path[1:]] == [-0.5, -0.25]
    document.next_branch(1)
    for node, kept in zip(document.path, before, strict=True):
        assert (node.step, node.origin) == (kept.step, kept.origin)
    assert document.surprisal() == (5.0, 2, True)


def test_a_token_is_described_without_those_after_it() -> None:
    document = Document()
    document.append(tokens(*range(20)) * 200, is_prompt=False)
    assert all(len(repr(node)) < 40 for node in document.path)


def test_surprisal_is_of_drawn_tokens_or_of_all_if_none_was_drawn() -> None:
    document = Document()
    document.append([step(0, None), step(1, -9.0)], is_prompt=True)
    assert document.surprisal() == (9.0, 1, False)
    document.append([step(0, math.log(0.5)), step(1, math.log(0.125))], is_prompt=False)
    nats, n, is_drawn = document.surprisal()
    assert nats == pytest.approx(2 * math.log(4))
    assert (n, is_drawn) == (2, True)


def test_what_was_deleted_comes_back_where_it_was() -> None:
    document = Document()
    document.append(tokens(0, 1, 2), is_prompt=False)
    document.cut(1)
    document.append(tokens(3), is_prompt=False)
    document.delete(1)
    assert document.text == "abc"
    document.delete(1)
    assert document.text == "a"
    assert document.undo() and document.text == "abc"
    assert document.undo() and document.text == "ad"
    assert not document.undo()
    assert document.branches(1) == 2


def test_a_node_of_another_branch_is_shown_with_what_stood_behind_it() -> None:
    document = Document()
    document.append(tokens(0, 1, 2), is_prompt=False)
    node = document.path[1]
    document.cut(1)
    document.append(tokens(3), is_prompt=False)
    assert document.show(node) == 1
    assert document.text == "abc"
    document.delete(1)
    with pytest.raises(ValueError, match="not in this document"):
        document.show(node)


def test_what_was_written_anew_joins_what_comes_back() -> None:
    document = Document()
    document.append(tokens(0, 1, 2, 3), is_prompt=False)
    document.cut(2)
    document.append(tokens(4), is_prompt=False)
    document.delete(2)
    document.delete(1)
    document.append(tokens(1, 5), is_prompt=False)
    document.path[2].is_marked = document.path[1].is_marked = True
    assert document.undo() and document.text == "abcd"
    assert document.path[1].is_marked
    assert document.branches(1) == 1 and document.branches(2) == 2
    document.next_branch(2)
    assert document.text == "abf" and document.path[2].is_marked
    assert document.undo() and document.text == "abe"
    assert document.branches(2) == 3


ACTIONS = ["append", "cut", "branch", "back", "delete", "undo", "show"]


@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 5))))
@example(
    [("append", 0), ("append", 0), ("delete", 2), ("cut", 1), ("append", 0), ("undo", 0)]
)  # the branch that comes back is not the one that was on the path last
@example([("append", 0), ("delete", 1), ("append", 1), ("undo", 0)])  # it is longer by now
def test_no_edit_loses_a_token_or_has_one_twice(edits: list[tuple[str, int]]) -> None:
    document = Document()
    known: set[tuple[int, ...]] = set()
    trash: list[set[tuple[int, ...]]] = []
    for action, n in edits:
        if action == "append":
            document.append(tokens(n, (n + 1) % 6), is_prompt=False)
        elif action == "cut":
            document.cut(min(n, len(document.path)))
        elif action == "undo":
            back = trash.pop() if trash else set()
            assert document.undo() == bool(back)
            shown = {tuple(document.ids[:length]) for length in range(len(document.path) + 1)}
            assert bool(shown & back) == bool(back)
            known |= back
        elif action == "show" and known:
            node = list(document.nodes())[n % len(known)]
            assert document.path[document.show(node)] is node
        elif action in ("branch", "back") and n < len(document.path):
            before = document.path[:n]
            document.next_branch(n, 1 if action == "branch" else -1)
            assert document.path[:n] == before
        elif action == "delete" and n < len(document.path):
            before = document.path[:n]
            document.delete(n)
            assert document.path[:n] == before
            now = branches(document)
            assert now < known
            trash.append(known - now)
            known = now
        now = branches(document)
        assert len(now) == len(list(document.nodes()))
        assert now >= known
        assert set(document.path) <= set(document.nodes())
        known = now
        for parent, child in zip(document.path, document.path[1:], strict=False):
            assert parent.children[parent.last] is child


def branches(document: Document) -> set[tuple[int, ...]]:
    """The ids from the first token to each of the tree."""
    found: set[tuple[int, ...]] = set()
    waiting: list[tuple[tuple[int, ...], Node]] = [((), root) for root in document.roots]
    while waiting:
        before, node = waiting.pop()
        ids = (*before, node.step.token_id)
        found.add(ids)
        waiting += [(ids, child) for child in node.children]
    return found


def ends(document: Document) -> dict[tuple[int, ...], Remark]:
    """The ids of each branch → what is said about it."""
    return {
        tuple(node.step.token_id for node in document.path_to(branch.end)): branch.remark
        for branch in document.all_branches()
    }


def edited(edits: list[tuple[str, int]], document: Document | None = None) -> Document:
    """A document after edits that leave remarks as well."""
    document = document or Document()
    for i, (action, n) in enumerate(edits):
        if action == "append":
            document.append(tokens(n, (n + 1) % 6), is_prompt=False)
        elif action == "cut":
            document.cut(min(n, len(document.path)))
        elif action == "undo":
            document.undo()
        elif n < len(document.path):
            if action == "remark":
                document.set_remark(document.path[n], Remark(n % 2 == 0, f"name {i}"))
            elif action == "branch":
                document.next_branch(n)
            elif action == "delete":
                document.delete(n)
            elif action == "remove":
                document.remove(list(document.nodes())[n])
    return document


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["append", "cut", "remark", "branch", "delete", "remove", "undo"]),
        st.integers(0, 5),
    ),
    max_size=30,
)


@given(EDITS)
def test_the_number_of_the_branch_on_the_screen_follows_every_edit(
    edits: list[tuple[str, int]],
) -> None:
    document = Document()
    for edit in edits:
        edited([edit], document)
        every = [branch.end for branch in document.all_branches()]
        assert document.branch_count == len(every)
        if not document.path:
            assert document.branch_number == 0 and document.remark == NOTHING
            continue
        shown = document.branch(document.path[-1])
        assert every[document.branch_number - 1] is shown[-1]
        assert document.remark == document.remark_of(shown[-1])
        assert document.remark == document.all_branches()[document.branch_number - 1].remark


@given(EDITS, st.lists(st.integers(0, 5), min_size=1, max_size=4))
def test_what_is_said_about_a_branch_stays_when_texts_are_written(
    edits: list[tuple[str, int]], places: list[int]
) -> None:
    document = edited(edits)
    before = ends(document)
    for n in places:
        document.cut(min(n, len(document.path)))
        document.append(tokens(n, 5 - n), is_prompt=False)
        now = ends(document)
        for ids, remark in before.items():
            (same,) = [each for each in now if each[: len(ids)] == ids]  # it may be longer now
            assert now[same] == remark
        before = now


@given(EDITS, st.integers(0, 40))
def test_a_deletion_and_its_undo_change_no_remark(edits: list[tuple[str, int]], n: int) -> None:
    document = edited(edits)
    if not (nodes := list(document.nodes())):
        return
    before, shown = ends(document), list(document.path)
    node = nodes[n % len(nodes)]
    document.remove(node)
    assert node not in set(document.nodes())
    if node not in shown:
        assert document.path == shown
    for parent, child in zip(document.path, document.path[1:], strict=False):
        assert parent.children[parent.last] is child
    assert document.undo()
    assert ends(document) == before
    assert document.path == shown if node not in shown else node in document.path


def test_a_shortened_branch_keeps_its_name_and_a_deleted_one_takes_it_along() -> None:
    document = Document()
    document.append(tokens(0, 1, 2), is_prompt=False)
    document.set_remark(document.path[0], Remark(is_starred=True, name="good"))
    document.delete(2)
    assert document.remark.name == "good"
    document.append(tokens(3), is_prompt=False)
    assert document.remark.name == "good"
    document.cut(2)
    document.append(tokens(4), is_prompt=False)
    assert document.remark == NOTHING and document.branch_count == 2
    document.next_branch(2)
    document.delete(2)
    assert document.text == "abe" and document.remark == NOTHING
    document.undo()
    assert document.text == "abd" and document.remark.name == "good"


def test_while_a_branch_grows_its_number_is_not_computed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tui import node as tree

    document = Document()
    document.append(tokens(0, 1), is_prompt=True)
    document.cut(1)
    document.append(tokens(2), is_prompt=False)
    counted = list[int]()
    compute = tree.number
    monkeypatch.setattr(tree, "number", lambda *a: counted.append(1) or compute(*a))
    for n in range(5):
        document.append(tokens(n), is_prompt=False)
        assert (document.branch_number, document.branch_count) == (2, 2)
    assert len(counted) == 1
    document.cut(1)
    document.append(tokens(5), is_prompt=False)
    assert (document.branch_number, document.branch_count) == (3, 3)


def test_a_name_cannot_be_endless() -> None:
    assert len(Remark(name="x" * 10_000).name) == LONGEST_NAME
