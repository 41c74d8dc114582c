"""Values of the settings that are accepted, and those that are refused by name."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.__main__ import main
from gpt.checkpoint import Checkpoint
from gpt.errors import UserError
from gpt.generate import Limits, blocked
from gpt.settings import Sampling

ids_strategy = st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple)
settings_strategy = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 1.7, 100.0]),
    top_k=st.integers(0, 12),
    top_p=st.floats(0, 1),
    min_p=st.floats(0, 1),
    repetition_penalty=st.floats(0.5, 3),
    banned=st.lists(ids_strategy.filter(lambda ids: ids[-1] < 9), max_size=5).map(tuple),
    boosted=st.lists(st.tuples(ids_strategy, st.floats(-50, 50)), max_size=3).map(tuple),
    seed=st.integers(0, 2**63 - 1),
)


def test_bare_ids_are_read_as_sequences_of_one() -> None:
    assert Sampling.from_dict({"banned": [2, [3, 4]], "boosted": [[5, 1]]}) == Sampling(
        banned=((2,), (3, 4)), boosted=(((5,), 1.0),)
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1},
        {"temperature": math.nan},
        {"temperature": "1"},
        {"top_p": 1.5},
        {"top_k": -1},
        {"top_k": 1.5},
        {"min_p": math.inf},
        {"repetition_penalty": 0},
        {"seed": -1},
        {"seed": True},
        {"banned": [-1]},
        {"banned": [[]]},
        {"banned": [[2, 1.5]]},
        {"banned": ["king"]},
        {"boosted": [3]},
        {"boosted": [[3, math.inf]]},
        {"boosted": [[[], 1.0]]},
        {"boosted": [[3, "much"]]},
        {"typical_p": 0.9},
    ],
)
def test_settings_that_make_no_sense_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Sampling.from_dict(bad)


@given(settings_strategy)
def test_settings_survive_json(sampling: Sampling) -> None:
    assert Sampling.from_dict(sampling.to_dict()) == sampling


@pytest.mark.parametrize("nats", [1e308, 1001, -1001, 10**400, math.nan, math.inf, True, "2", None])
def test_a_boost_out_of_range_is_refused_by_its_name(nats: Any) -> None:
    with pytest.raises(UserError, match=r"boosted is .* a number from -1000 to 1000"):
        Sampling(boosted=((1, nats),))  # type: ignore[arg-type]


def test_a_number_that_python_will_not_even_write_is_refused_by_its_name() -> None:
    for values in ({"boosted": [[1, 10**5000]]}, {"top_k": 10**5000}, {"seed": -(10**5000)}):
        with pytest.raises(UserError, match="too long to show; it must be"):
            Sampling.from_dict(values)


@pytest.mark.parametrize("n", ["-1", "-2147483648", "2147483648"])
def test_a_number_of_tokens_is_refused_as_other_settings_are(tiny: Checkpoint, n: str) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["complete", "some", "--model", "tiny", "-n", n])
    assert ending.value.code == (
        f"error: max_new_tokens is {n}; it must be a whole number from 0 to 2147483647"
    )


@pytest.mark.parametrize("n", [True, 1.0, "1", None])
def test_a_number_of_tokens_is_a_whole_number(tiny: Checkpoint, n: int) -> None:
    with pytest.raises(UserError, match=r"max_new_tokens is .* must be a whole number from 0"):
        blocked(tiny.new_context(), [1], Limits(n, slide=False))


def test_no_token_at_all_may_be_asked_for(tiny: Checkpoint) -> None:
    assert blocked(tiny.new_context(), [1], Limits(0, slide=False)) == "length"
    assert blocked(tiny.new_context(), [1], Limits(1, slide=False)) is None
