"""What settings make of a few candidates, against the stages on the whole distribution."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt.errors import UserError
from gpt.remote.odds import after_settings, model_odds, plan, stages_of
from gpt.remote.server import Reading, Top, best_first, candidates, rank_in
from gpt.remote.steps import entropy
from gpt.sampling import distribution
from gpt.settings import Sampling

V = 12
_LOGITS = st.lists(st.integers(-60, 60), min_size=V, max_size=V, unique=True).map(
    lambda tenths: [value / 10 for value in tenths]
)
_SETTINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 1.7]),
    top_k=st.sampled_from([0, 1, 3, 20]),
    top_p=st.sampled_from([0.3, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5]),
    banned=st.sampled_from([(), ((3,),), ((1, 4), (2, 5))]),
    boosted=st.sampled_from([(), (((6,), 2.53),), (((2, 7), -3.01),)]),
)


def _top(logits: list[float], n: int) -> Top:
    logprobs = torch.tensor(logits, dtype=torch.float64).log_softmax(-1).tolist()
    return best_first(list(enumerate(logprobs)), n)


@given(_LOGITS, _SETTINGS)
def test_all_candidates_are_our_stages(logits: list[float], sampling: Sampling) -> None:
    path = [0, 2]
    found = stages_of(model_odds(_top(logits, V), V), plan(sampling, ()), path)
    expected = distribution(torch.tensor(logits), sampling, path)
    assert [name for name, _ in found] == [stage.name for stage in expected]
    for (_, odds), stage in zip(found, expected, strict=True):
        for i, value in enumerate(stage.logprobs.exp().tolist()):
            assert math.exp(odds.logprobs[i]) == pytest.approx(value, abs=1e-5)


@given(_LOGITS, _SETTINGS, st.integers(1, V))
def test_fewer_candidates_are_exact_or_nothing(
    logits: list[float], sampling: Sampling, n: int
) -> None:
    """If the rest is gone, the numbers are those of the whole distribution."""
    path, top = [0, 2], _top(logits, n)
    named = {i for ids in (*sampling.banned, *(b[0] for b in sampling.boosted)) for i in ids}
    if named - {i for i, _ in top}:
        return  # what is said of tokens that are not among the candidates cannot be computed
    found = after_settings(Reading(top[0][0], top[0][1], 1, top), V, plan(sampling, ()), path)
    whole = distribution(torch.tensor(logits), sampling, path)[-1].logprobs.tolist()
    for i, value in found.items():
        assert value == pytest.approx(whole[i], abs=1e-4)


def test_penalties_need_logits() -> None:
    assert plan(Sampling(repetition_penalty=2), ()).left_out == ("repetition_penalty",)
    reading = Reading(0, -1.0, 1, ((0, -1.0),))
    assert after_settings(reading, V, plan(Sampling(repetition_penalty=2), ()), []) == {}


@given(_LOGITS, _SETTINGS)
def test_a_server_may_have_its_own_order(logits: list[float], sampling: Sampling) -> None:
    order = ("temperature", "min_p", "top_k", "top_p")
    found = stages_of(model_odds(_top(logits, V), V), plan(sampling, order), [0, 2])
    expected = distribution(torch.tensor(logits), replace(sampling, order=order), [0, 2])
    assert [name for name, _ in found] == [stage.name for stage in expected]
    for i, value in enumerate(expected[-1].logprobs.exp().tolist()):
        assert math.exp(found[-1][1].logprobs[i]) == pytest.approx(value, abs=1e-5)


def test_of_an_unknown_order_nothing_is_claimed() -> None:
    top = _top([3.0, 2.0, 1.0, 0.0], 4)
    reading = Reading(0, top[0][1], 1, top)
    both = Sampling(temperature=0.5, top_p=0.8)
    assert plan(both, None).left_out == ("temperature", "top_p")
    assert after_settings(reading, 4, plan(both, None), []) == {}
    assert after_settings(reading, 4, plan(both, ()), []) != {}
    for one in (Sampling(top_p=0.8), Sampling(temperature=0, top_p=0.8)):
        assert after_settings(reading, 4, plan(one, None), []) == after_settings(
            reading, 4, plan(one, ()), []
        )


@given(_LOGITS, st.integers(1, V))
def test_entropy_is_exact_or_a_lower_bound(logits: list[float], n: int) -> None:
    logprobs = torch.tensor(logits, dtype=torch.float64).log_softmax(-1)
    exact = float(-(logprobs.exp() * logprobs).sum())
    value, is_bound = entropy(_top(logits, n), V)
    assert value is not None and value <= exact + 1e-9
    assert is_bound == (n < V)
    if n == V:
        assert value == pytest.approx(exact)
    known, _ = entropy(_top(logits, n)[:-1], V)
    assert known is None or known <= value + 1e-9  # one more candidate tells more


def test_ranks() -> None:
    top = ((5, -1.0), (3, -2.0), (4, -2.0))
    assert [rank_in(top, i) for i in (5, 3, 4, 9)] == [1, 2, 2, None]
    assert best_first([(4, -2.0), (3, -2.0), (5, -1.0), (4, -2.0)], 9) == top


_VALUES = st.sampled_from([-0.5, -1.0, -2.0, -2.5, -9999.0, 0, -3, -math.inf, math.nan, None, 5.0])


@given(
    st.lists(st.tuples(st.integers(0, 9), _VALUES), max_size=12), st.booleans(), st.integers(1, 9)
)
def test_candidates_in_any_order(pairs: list[Any], is_sorted: bool, top: int) -> None:
    known = [(i, v) for i, v in pairs if v is not None and -1e9 < v <= 1e-3]
    if is_sorted:
        pairs = known = list(best_first(known, 99))
    found = candidates([i for i, _ in pairs], [v for _, v in pairs], top)
    assert found == best_first(known, top)
    assert all(type(value) is float for _, value in found)


@pytest.mark.parametrize("bad", [-1, 2**31, True, "1", None, 1.0])
def test_candidates_have_ids(bad: Any) -> None:
    with pytest.raises(UserError, match="a token id in a form that is not known"):
        candidates([1, bad], [-1.0, -2.0], 5)


def test_rounding_leaves_no_rest_where_the_last_candidate_is_impossible() -> None:
    """A server that shows numbers after the settings says -9999 of tokens that they removed."""
    half = math.log(0.5) - 1e-7
    value, is_bound = entropy(((0, half), (1, half), (2, -9999.0)), V)
    assert is_bound and value is not None and value <= math.log(2) + 1e-6
