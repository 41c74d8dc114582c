"""Counting how many calls a text needs with drafts (benchmarks/prompt_lookup.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.prompt_lookup import Call, calls, lookup, speed, summary

TEXT = st.lists(st.integers(0, 2), max_size=40)
"""Few different tokens, so that drafts are frequent."""


@pytest.mark.parametrize(
    ("ids", "draft"),
    [
        ([1, 2, 3, 9, 1, 2], [3, 9, 1]),
        ([5, 5, 5], [5, 5, 5]),
        ([1, 2, 1, 2], [1, 2, 1]),  # a repetition that is shorter than the draft goes on
        ([1, 2, 3, 1, 2, 4, 1, 2], [4, 1, 2]),  # the latest place
        ([1, 2, 3, 4, 6, 3, 4, 7, 2, 3, 4], [6, 3, 4]),  # but rather a longer match
        ([9, 1, 8, 1], []),  # a match of one token is none
        ([1], []),
        ([], []),
    ],
)
def test_a_draft_is_what_followed_last_time(ids: list[int], draft: list[int]) -> None:
    assert lookup(ids, 3) == draft


@given(prompt=TEXT, drawn=TEXT, k=st.integers(0, 7), more=st.integers(0, 5))
def test_the_calls_draw_the_path(prompt: list[int], drawn: list[int], k: int, more: int) -> None:
    limit, known = len(drawn) + more, list(prompt)
    found = calls(prompt, drawn, k, limit)
    for drafted, new in found:
        left = limit - (len(known) - len(prompt))
        assert drafted == lookup(known, len(drafted))
        assert len(drafted) in (0, min(k, left - 1))
        assert new[:-1] == drafted[: len(new) - 1]
        known += new
        # A call ends at the first token that was not drafted, or with the text.
        is_other = new[-1:] != drafted[len(new) - 1 : len(new)]
        assert is_other or len(known) == len(prompt) + len(drawn)
    assert known == prompt + drawn


@pytest.mark.parametrize("k", [3, 7])
@pytest.mark.parametrize("line", [[1], list(range(20))])
def test_a_text_that_repeats_itself_needs_few_calls(line: list[int], k: int) -> None:
    n = 840
    found = calls(line * 4, (line * n)[:n], k, n)
    assert len(found) == n // (k + 1)
    assert summary(found) == {
        "tokens": n,
        "calls": n // (k + 1),
        "tokens_per_call": k + 1,
        "calls_with_draft": 1,
        "width": k + 1,
    }


def test_a_text_of_different_tokens_needs_a_call_for_each() -> None:
    assert calls([0, 1, 2], list(range(3, 50)), 3, 100) == [Call([], [i]) for i in range(3, 50)]


def test_rejected_drafts_cost_time() -> None:
    times = {"1": 1.0, "2": 1.5, "4": 2.5, "greedy": 0.5}
    alone, accepted, rejected = Call([], [1]), Call([1, 2], [1, 2, 3]), Call([1, 2, 3], [4])
    assert speed([alone] * 9, times, "greedy") == 1
    assert speed([accepted], times, "greedy") == round(3 * 1.5 / (2 + 3 * 0.5), 3)
    assert speed([rejected], times, "greedy") == 0.5
