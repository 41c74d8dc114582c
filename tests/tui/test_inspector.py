from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.style import Style
from textual.app import App, ComposeResult

from gpt.step import Candidate, Step
from tui.bars import FULL, bar, full_bar
from tui.heat import CERTAIN, STEPS, heat
from tui.labels import percent, visible
from tui.widgets.inspector import Inspector, Row, describe, rows


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


def total(shown: list[Row]) -> tuple[float, float]:
    return math.fsum(row.own for row in shown), math.fsum(row.after or 0 for row in shown)


def test_each_column_sums_to_one() -> None:
    shown = rows(made(0), vocab_size=10)
    assert [row.label for row in shown] == ["a", "b", "c", "7 more"]
    assert [row.number for row in shown] == [1, 2, 3, 0]
    assert [row.is_chosen for row in shown] == [True, False, False, False]
    assert total(shown) == pytest.approx((1, 1))


def test_with_little_room_the_columns_still_sum_to_one() -> None:
    shown = rows(made(1), vocab_size=10, limit=1)
    assert [row.label for row in shown] == ["a", "a", "8 more"]
    assert [row.is_chosen for row in shown] == [False, True, False]
    assert total(shown) == pytest.approx((1, 1))


def test_a_token_outside_the_best_has_its_own_row() -> None:
    shown = rows(made(9), vocab_size=10)
    assert [row.is_chosen for row in shown] == [False, False, False, True, False]
    assert shown[3].own == pytest.approx(0.1) and not shown[3].number
    assert shown[4].label == "6 more"


def test_other_settings_move_the_bars_and_leave_the_old_ones_as_a_ghost() -> None:
    shown = rows(made(0), vocab_size=10, now={0: 0.5, 1: 0.3, 2: 0.1})
    assert [(row.after, row.before) for row in shown[:3]] == [
        (0.5, pytest.approx(0.75)),
        (0.3, pytest.approx(0.25)),
        (0.1, 0.0),
    ]
    assert shown[3].after == pytest.approx(0.1)
    # A token of the prompt was not sampled, so it has no ghost.
    shown = rows(made(0, sampling=False), vocab_size=10, now={0: 0.5, 1: 0.3, 2: 0.1})
    assert [(row.after, row.before) for row in shown[:2]] == [(0.5, None), (0.3, None)]
    assert [row.after for row in rows(made(0, sampling=False), vocab_size=10)] == [None] * 4


def test_the_numbers_say_what_they_are() -> None:
    lines = [line.plain for line in describe(made(0))]
    assert lines == [
        '"a"  id 0 · position 7',
        "P = 10.0 %   rank 4   ≈ 2.7 equally likely",
        "drawn with P = 20.0 % · entropy 1.00 nats",
    ]
    assert describe(made(0, sampling=False))[-1].plain.startswith("given, not drawn")
    not_sampled = describe(made(0, sampling=False), False)[-1].plain
    assert not_sampled.startswith("not sampled by this model")
    bare = [line.plain for line in describe(Step(0, 5, b" ", " "))]
    assert bare[0].startswith('"·"')
    assert bare[-1] == "First token: nothing to predict it from"


@pytest.mark.parametrize("width", [20, 30, 45, 56, 76, 110])
@pytest.mark.parametrize("height", [6, 8, 9, 12])
async def test_the_numbers_have_a_heading_at_every_size(width: int, height: int) -> None:
    class Shown(App[None]):
        def compose(self) -> ComposeResult:
            yield Inspector()

    app = Shown()
    async with app.run_test(size=(width, height)):
        panel = app.query_one(Inspector)
        panel.step, panel.vocab_size = made(1), 10
        lines = str(panel.render()).split("\n")
        assert len(lines) <= height
        (heading,) = (line for line in lines if " model" in line)
        first, second = heading.index("model"), heading.index("sampling")
        (row,) = (line for line in lines if "▸" in line)
        # Each heading begins where its column does.
        assert row.index("25.0 %") > first and row.rindex("25.0 %") > second
        assert row.index("25.0 %") < second - 6


async def test_a_narrow_heading_says_which_network_each_column_is_of() -> None:
    class Shown(App[None]):
        def compose(self) -> ComposeResult:
            yield Inspector()

    app = Shown()
    async with app.run_test(size=(34, 24)):
        panel = app.query_one(Inspector)
        panel.step, panel.inside, panel.acting, panel.now = made(1), "1 part off", "whole", {1: 0.5}
        assert re.search(r"\n +changed +whole, sampled\n", str(panel.render()))
        assert max(map(len, str(panel.render()).splitlines())) <= 34
        panel.inside, panel.acting = "", "changed"
        assert re.search(r"\n +whole +changed, sampled\n", str(panel.render()))
        panel.now = None  # the column is of the settings that drew the token
        assert re.search(r"\n +model +(after )?sampling\n", str(panel.render()))


@given(st.floats(0, 1), st.integers(1, 60), st.none() | st.floats(0, 1))
def test_a_bar_has_its_width_and_grows(share: float, cells: int, before: float | None) -> None:
    drawn = bar(share, cells, Style(), before).plain
    assert len(drawn) == cells
    if before is None:
        filled = len(drawn.rstrip())
        assert share * cells - 1 / 8 <= filled <= share * cells + 1


def test_a_ghost_shows_where_the_bar_ended() -> None:
    assert bar(0.25, 8, Style(), 0.75).plain == "██░░░░  "
    shorter = bar(0.75, 8, Style(), 0.25)
    assert shorter.plain == "█▏████  "
    assert bar(0.75, 8, Style(), 0.75).plain == "██████  "


@given(st.lists(st.floats(0, 1)))
def test_a_full_bar_holds_every_probability(found: list[float]) -> None:
    assert full_bar(found) in FULL
    assert all(p <= full_bar(found) for p in found)


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
    steps = [heat(math.log(p)) for p in (0.69, 0.3, 0.1, 0.05, 0.01, 0.001, 1e-9)]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (1, STEPS - 1)


def test_rounding_is_no_rest() -> None:
    logprobs = [math.log(0.6), math.log(0.3999999)]
    candidates = tuple(Candidate(i, b"x", p, p) for i, p in enumerate(logprobs))
    step = Step(1, 0, b"x", "x", logprobs[0], 1, 0.7, candidates, logprobs[0])
    *_, rest = rows(step, vocab_size=50)
    assert (rest.label, rest.own, rest.after) == ("48 more", 0.0, 0.0)
