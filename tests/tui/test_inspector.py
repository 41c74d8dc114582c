from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.step import Candidate, Step
from tui.heat import CERTAIN, STEPS, heat
from tui.labels import percent, visible
from tui.widgets.inspector import describe, rows


def made(token_id: int, sampling: bool = True) -> Step:
    p = [0.5, 0.25, 0.05]
    after = [0.75, 0.25, 0.0]
    candidates = tuple(
        Candidate(i, bytes([97 + i]), math.log(q), math.log(r) if sampling and r else None)
        for i, (q, r) in enumerate(zip(p, after, strict=True))
    )
    return Step(
        7,
        token_id,
        b"a",
        "a",
        math.log(0.1),
        4,
        1.0,
        candidates,
        math.log(0.2) if sampling else None,
    )


def test_each_column_sums_to_one() -> None:
    shown = rows(made(0), vocab_size=10)
    assert [label for label, *_ in shown] == ["a", "b", "c", "7 more"]
    assert math.fsum(row[1] for row in shown) == pytest.approx(1)
    assert math.fsum(row[2] for row in shown) == pytest.approx(1)
    assert [is_chosen for *_, is_chosen in shown] == [True, False, False, False]


def test_with_little_room_the_columns_still_sum_to_one() -> None:
    shown = rows(made(1), vocab_size=10, limit=1)
    assert [label for label, *_ in shown] == ["a", "a", "8 more"]
    assert [row[3] for row in shown] == [False, True, False]
    assert math.fsum(row[1] for row in shown) == pytest.approx(1)


def test_a_token_outside_the_best_has_its_own_row() -> None:
    shown = rows(made(9), vocab_size=10)
    assert [row[3] for row in shown] == [False, False, False, True, False]
    assert shown[3][1] == pytest.approx(0.1)
    assert shown[4][0] == "6 more"


def test_the_numbers_say_what_they_are() -> None:
    lines = [line for line, _ in describe(made(0))]
    assert lines == [
        "a   id 0, position 7",
        "probability 10.0 %, rank 4",
        "≈ 2.7 equally likely (entropy 1.00 nats)",
        "drawn at 20.0 % after settings",
    ]
    assert describe(made(0, sampling=False))[-1][0] == "Your text"
    assert describe(made(0, sampling=False), False)[-1][0] == "Not sampled by this model"
    bare = [line for line, _ in describe(Step(0, 5, b" ", " "))]
    assert bare[0].startswith("·")
    assert bare[-1] == "First token: nothing to predict it from"


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (0, "0 %"),
        (1e-9, "<.01 %"),
        (0.0123, "1.23 %"),
        (0.431, "43.1 %"),
        (0.99999, ">99.9 %"),
        (1, "100 %"),
    ],
)
def test_percent(p: float, shown: str) -> None:
    assert percent(p) == shown


@given(st.binary(max_size=8))
def test_labels_are_harmless_and_never_empty(data: bytes) -> None:
    label = visible(data, 12)
    assert label
    assert label.isprintable()
    assert " " not in label


def test_heat_grows_with_surprise() -> None:
    assert heat(None) == heat(0.0) == heat(math.log(CERTAIN)) == 0
    steps = [heat(math.log(p)) for p in (0.69, 0.4, 0.2, 0.05, 0.01, 0.001, 1e-9)]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (1, STEPS - 1)


def test_rounding_is_no_rest() -> None:
    logprobs = [math.log(0.6), math.log(0.3999999)]
    candidates = tuple(Candidate(i, b"x", p, p) for i, p in enumerate(logprobs))
    step = Step(1, 0, b"x", "x", logprobs[0], 1, 0.7, candidates, logprobs[0])
    *_, rest = rows(step, vocab_size=50)
    assert rest[:3] == ("48 more", 0.0, 0.0)
