"""Values of the settings that are accepted, and those that are refused by name."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.checkpoint import Checkpoint
from gpt.errors import UserError
from gpt.generate import Limits, blocked
from gpt.settings import ORDER, Sampling

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
"""The settings that the fast ways know."""
NEW: dict[str, st.SearchStrategy[Any]] = {
    "presence_penalty": st.floats(-2, 2),
    "frequency_penalty": st.floats(-2, 2),
    "penalty_window": st.integers(0, 4),
    "dry_multiplier": st.sampled_from([0.0, 0.8]),
    "dry_base": st.floats(1, 4),
    "dry_allowed_length": st.integers(1, 3),
    "dry_window": st.integers(0, 5),
    "dynatemp_range": st.sampled_from([0.0, 0.4, 2.0]),
    "dynatemp_exponent": st.floats(0.1, 4),
    "top_n_sigma": st.sampled_from([0.0, 0.5, 2.0]),
    "typical_p": st.floats(0, 1),
    "xtc_probability": st.sampled_from([0.0, 0.5, 1.0]),
    "xtc_threshold": st.floats(0, 0.6),
    "mirostat_tau": st.sampled_from([0.0, 0.5, 5.0]),
    "mirostat_eta": st.floats(0, 1),
    "mirostat_mu": st.none() | st.floats(-5, 20),
    "order": st.just(()) | st.permutations(ORDER).map(tuple),
}
"""Those that only gpt/sampling.py knows."""
ALL = st.builds(replace, settings_strategy, **NEW)


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
        {"top_h": 0.9},
        {"typical_p": 1.1},
        {"dry_base": 0.5},
        {"dry_allowed_length": 0},
        {"penalty_window": 1.0},
        {"mirostat_mu": math.nan},
        {"xtc_probability": None},
        {"order": "min_p"},
        {"order": ["min_p", "min_p"]},
        {"order": ["seed"]},
        {"order": ["banned", "min_p"]},
        {"order": [["min_p"]]},
        {"order": [None]},
        {"order": {"min_p": 1}},
    ],
)
def test_settings_that_make_no_sense_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Sampling.from_dict(bad)


@given(ALL)
def test_settings_survive_json(sampling: Sampling) -> None:
    assert Sampling.from_dict(json.loads(json.dumps(sampling.to_dict()))) == sampling


def test_a_part_of_the_order_is_put_into_the_places_that_it_has() -> None:
    swapped = Sampling(order=("min_p", "temperature"))
    full = list(ORDER)
    i, j = full.index("temperature"), full.index("min_p")
    full[i], full[j] = full[j], full[i]
    assert swapped.order == tuple(full)
    assert Sampling(order=tuple(full)) == swapped
    assert Sampling(order=ORDER) == Sampling(order=("top_k",)) == Sampling()


def test_stages_are_the_active_settings_in_their_order_after_what_is_banned() -> None:
    sampling = Sampling(banned=((1,),), temperature=0.5, min_p=0.1, xtc_threshold=0.3)
    assert sampling.stages == ("banned", "temperature", "min_p")
    assert "xtc_threshold" not in sampling.active
    turned = replace(sampling, order=("min_p", "temperature"))
    assert turned.stages == ("banned", "min_p", "temperature")
    assert turned.active - sampling.active == {"order"}
    # An order that moves only what does not act changes nothing.
    assert replace(sampling, order=("top_p", "top_k")).active == sampling.active
    assert Sampling(dynatemp_range=0.5).stages == ("temperature",)


def test_after_a_token_mirostat_aims_at_tau() -> None:
    sampling = Sampling(mirostat_tau=3.0, mirostat_eta=0.5)
    assert sampling.mu == 6
    assert sampling.after(-5 * math.log(2)).mu == pytest.approx(5)
    assert sampling.after(-5 * math.log(2)).after(0.0).mu == pytest.approx(6.5)


@pytest.mark.parametrize("nats", [1e308, 1001, -1001, 10**400, math.nan, math.inf, True, "2", None])
def test_a_boost_out_of_range_is_refused_by_its_name(nats: Any) -> None:
    with pytest.raises(UserError, match=r"boosted is .* a number from -1000 to 1000"):
        Sampling(boosted=((1, nats),))  # type: ignore[arg-type]


def test_a_number_that_python_will_not_even_write_is_refused_by_its_name() -> None:
    for values in ({"boosted": [[1, 10**5000]]}, {"top_k": 10**5000}, {"seed": -(10**5000)}):
        with pytest.raises(UserError, match="too long to show; it must be"):
            Sampling.from_dict(values)


@pytest.mark.parametrize("n", [True, 1.0, "1", None])
def test_a_number_of_tokens_is_a_whole_number(tiny: Checkpoint, n: int) -> None:
    with pytest.raises(UserError, match=r"max_new_tokens is .* must be a whole number from 0"):
        blocked(tiny.new_context(), [1], Limits(n, slide=False))


def test_no_token_at_all_may_be_asked_for(tiny: Checkpoint) -> None:
    assert blocked(tiny.new_context(), [1], Limits(0, slide=False)) == "length"
    assert blocked(tiny.new_context(), [1], Limits(1, slide=False)) is None
