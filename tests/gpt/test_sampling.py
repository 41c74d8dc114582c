"""The distribution after the settings, and the draw from it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import fields
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gpt.errors import UserError
from gpt.noise import _mix32, exponential
from gpt.prediction import NonFiniteLogitsError, check_finite
from gpt.sampling import distribution, draw
from gpt.settings import Sampling
from tests.gpt.test_settings import ALL

LOGITS = torch.tensor([2.0, 4.0, 5.0, -1.0, 4.0])


def probabilities(sampling: Sampling, context: tuple[int, ...] = ()) -> list[float]:
    return distribution(LOGITS, sampling, context)[-1].logprobs.exp().tolist()


def kept(sampling: Sampling, context: tuple[int, ...] = ()) -> set[int]:
    return {i for i, p in enumerate(probabilities(sampling, context)) if p > 0}


def test_neutral_settings_leave_the_models_own_distribution() -> None:
    stages = distribution(LOGITS, Sampling(), [1, 2])
    assert [stage.name for stage in stages] == ["model"]
    torch.testing.assert_close(stages[0].logprobs, LOGITS.log_softmax(-1))


def test_temperature_divides_logits() -> None:
    expected = (LOGITS / 0.5).softmax(-1).tolist()
    assert probabilities(Sampling(temperature=0.5)) == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [0, 0.0, 1e-40, 1e-6])
def test_temperature_zero_and_tiny_ones_are_greedy(temperature: float) -> None:
    assert probabilities(Sampling(temperature=temperature)) == [0, 0, 1, 0, 0]


def test_top_k_keeps_exactly_k_and_the_lower_id_of_a_tie() -> None:
    assert kept(Sampling(top_k=1)) == {2}
    assert kept(Sampling(top_k=2)) == {1, 2}
    assert kept(Sampling(top_k=3)) == {1, 2, 4}
    assert kept(Sampling(top_k=99)) == {0, 1, 2, 3, 4}


def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    p = LOGITS.softmax(-1)
    assert kept(Sampling(top_p=0.0)) == {2}
    assert kept(Sampling(top_p=float(p[2]) - 1e-4)) == {2}
    assert kept(Sampling(top_p=float(p[2]) + 1e-4)) == {1, 2}
    assert kept(Sampling(top_p=0.99)) == {0, 1, 2, 4}


@pytest.mark.parametrize("top_p", [0.001, 0.1, 0.5, 0.9, 0.999, 0.9999999])
@pytest.mark.parametrize("spread", [0.0, 1e-3, 0.1, 2.0, 10.0, 60.0])
def test_top_p_in_a_large_vocabulary_keeps_what_sorting_all_of_it_would(
    spread: float, top_p: float
) -> None:
    # The logits are rounded, so that many tokens tie.
    logits = (torch.randn(50257, generator=torch.manual_seed(3)) * spread).mul(50).round().div(50)
    found = distribution(logits, Sampling(top_p=top_p), [])[-1].logprobs > -math.inf
    p, order = logits.double().softmax(-1).sort(descending=True, stable=True)
    inside = torch.zeros_like(found).index_fill_(0, order[: int(found.sum())], True)
    assert torch.equal(found, inside)
    # The sums have float32's precision.
    assert p[found[order]].sum() > top_p - 1e-5
    assert p[found[order]][:-1].sum() < top_p + 1e-5


def test_min_p_is_a_share_of_the_best_one() -> None:
    assert kept(Sampling(min_p=math.exp(-1) + 1e-3)) == {2}
    assert kept(Sampling(min_p=math.exp(-1) - 1e-3)) == {1, 2, 4}
    assert kept(Sampling(min_p=1.0)) == {2}


def test_min_p_acts_after_temperature() -> None:
    # A high temperature lets the second best token pass; if temperature came last, min-p would
    # already have removed it.
    assert kept(Sampling(min_p=0.5)) == {2}
    assert kept(Sampling(temperature=2.0, min_p=0.5)) == {1, 2, 4}


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits() -> None:
    expected = torch.tensor([2.0, 4.0, 2.5, -2.0, 4.0]).softmax(-1).tolist()
    got = probabilities(Sampling(repetition_penalty=2.0), context=(2, 3, 2))
    assert got == pytest.approx(expected)


def test_banned_tokens_are_gone_and_ids_beyond_the_vocabulary_do_not_matter() -> None:
    assert kept(Sampling(banned=((2,), (99,)))) == {0, 1, 3, 4}
    with pytest.raises(UserError, match="every token"):
        probabilities(Sampling(banned=tuple((i,) for i in range(5))))


def test_a_banned_word_is_never_completed_and_its_beginning_stays() -> None:
    sampling = Sampling(banned=((1, 3, 2),))
    assert kept(sampling, context=(4, 1, 3)) == {0, 1, 3, 4}
    for context in ((), (3,), (3, 1), (1, 3, 4)):
        assert kept(sampling, context=context) == {0, 1, 2, 3, 4}


def test_a_boost_multiplies_the_odds_of_a_words_next_token() -> None:
    plain = LOGITS.softmax(-1)
    for context, boosted in (((), 1), ((4, 1), 2), ((2,), 1)):
        sampling = Sampling(boosted=(((1, 2), math.log(3)), ((99,), 1.0)))
        raised = plain.clone()
        raised[1] *= 3
        if boosted == 2:
            raised[2] *= 3
        got = probabilities(sampling, context=context)
        assert got == pytest.approx((raised / raised.sum()).tolist(), abs=1e-6)


def test_stages_say_what_each_setting_removed() -> None:
    sampling = Sampling(banned=((2,),), temperature=0.7, top_k=3, top_p=0.9, min_p=0.5)
    stages = distribution(LOGITS, sampling, [])
    assert [stage.name for stage in stages] == [
        "model",
        "banned",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
    ]
    removed = [stage.removed.nonzero()[:, 0].tolist() for stage in stages]
    assert removed == [[], [2], [], [3], [0], []]


logits_strategy = st.lists(st.floats(-60, 60, width=32), min_size=10, max_size=10)


@given(logits_strategy, ALL, st.lists(st.integers(0, 9), max_size=6))
def test_every_stage_is_a_distribution_and_nothing_comes_back(
    values: list[float], sampling: Sampling, context: list[int]
) -> None:
    gone = torch.zeros(10, dtype=torch.bool)
    stages = distribution(torch.tensor(values), sampling, context)
    assert tuple(stage.name for stage in stages) == ("model", *sampling.stages)
    for stage in stages:
        assert stage.logprobs.exp().sum().item() == pytest.approx(1, abs=1e-4)
        assert not (gone & stage.removed).any()
        gone |= stage.removed
        assert torch.equal(gone, stage.logprobs.isneginf()) or stage.name == "model"
    final = stage.logprobs
    assert not gone[draw(final, sampling.seed, 3)]


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**6))
def test_the_noise_repeats_and_does_not_depend_on_the_other_tokens(
    seed: int, position: int
) -> None:
    ids = torch.arange(100)
    noise = exponential(ids, seed, position)
    assert torch.equal(noise, exponential(ids, seed, position))
    assert torch.equal(noise[:50], exponential(ids[:50], seed, position))
    assert (noise.isfinite() & (noise > 0)).all()
    assert not torch.equal(noise, exponential(ids, seed ^ 1, position))
    assert not torch.equal(noise, exponential(ids, seed, position + 1))


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50))
def test_the_hash_is_lowbias32(numbers: list[int]) -> None:
    def lowbias32(x: int) -> int:
        x = (x ^ x >> 16) * 0x7FEB352D % 2**32
        x = (x ^ x >> 15) * 0x846CA68B % 2**32
        return x ^ x >> 16

    x = torch.tensor(numbers).to(torch.int32)
    found = (_mix32(x).long() & 0xFFFFFFFF).tolist()
    assert found == [lowbias32(number) for number in numbers]


@pytest.mark.parametrize("n", [3, 29, 65, 1001, 50257])
def test_top_p_of_nothing_keeps_the_first_of_equals(n: int) -> None:
    final = distribution(torch.zeros(n), Sampling(top_p=0.0), [])[-1].logprobs
    assert final.exp().nonzero()[:, 0].tolist() == [0]


def test_banning_another_word_keeps_the_noise() -> None:
    for position in range(200):
        chosen = draw(distribution(LOGITS, Sampling(), [])[-1].logprobs, 7, position)
        other = (chosen + 1) % 5
        again = distribution(LOGITS, Sampling(banned=((other,),)), [])[-1].logprobs
        assert draw(again, 7, position) == chosen


@pytest.mark.parametrize("vary", ["position", "seed"])
def test_draws_follow_the_distribution(vary: str) -> None:
    logprobs = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    n = 4000
    draws = [draw(logprobs, *((0, i) if vary == "position" else (i, 0))) for i in range(n)]
    counts = Counter(draws)
    expected = {0: 0.5 * n, 1: 0.3 * n, 2: 0.15 * n, 3: 0.05 * n}
    chi_squared = sum((counts[i] - e) ** 2 / e for i, e in expected.items())
    assert chi_squared < 16.3  # one in a thousand, three degrees of freedom; the seeds are fixed


def test_noise_of_neighbours_is_uncorrelated_and_has_the_moments_of_an_exponential() -> None:
    noise = torch.stack([exponential(torch.arange(50), 1, position) for position in range(2000)])
    assert noise.mean().item() == pytest.approx(1, abs=0.01)
    assert noise.var().item() == pytest.approx(1, abs=0.03)
    for a, b in ((noise[:, 1:], noise[:, :-1]), (noise[1:], noise[:-1])):
        pair = torch.stack([a.flatten(), b.flatten()])
        assert abs(torch.corrcoef(pair)[0, 1].item()) < 0.015


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_name_the_position(bad: float) -> None:
    logits: Tensor = LOGITS.clone()
    logits[3] = bad
    with pytest.raises(NonFiniteLogitsError, match="position 17"):
        check_finite(float(logits.sum()), 17)


HUGE = st.one_of(
    st.floats(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), 1e308, -1e308, 1e39, 0.0, 5e-324, True, "1"]),
)
ODD: st.SearchStrategy[Any] = st.recursive(
    HUGE | st.none() | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=1), inner),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from([field.name for field in fields(Sampling)]), ODD | HUGE),
    st.lists(st.tuples(st.integers(-1, 5), HUGE), max_size=4),
)
def test_settings_give_a_distribution_or_are_refused_by_name(
    values: dict[str, Any], boosted: list[tuple[int, Any]]
) -> None:
    try:
        sampling = Sampling.from_dict({"boosted": boosted, **values})
        final = distribution(LOGITS, sampling, [0, 3])[-1].logprobs
    except UserError as error:
        assert any(field.name in str(error) for field in fields(Sampling))
        return
    assert float(final.exp().sum()) == pytest.approx(1, abs=1e-5)
    assert 0 <= draw(final, sampling.seed, 2) < len(LOGITS)


@pytest.mark.parametrize(
    ("logits", "setting"),
    [
        ([3e38, -3e38], {"repetition_penalty": 0.01}),
        ([-3e38, -3e38], {"repetition_penalty": 100.0}),
        ([3.4e38, 3.4e38], {"boosted": ((0, 1000.0),) * 1000, "repetition_penalty": 0.5}),
    ],
)
def test_scores_that_overflow_name_the_setting(logits: list[float], setting: Any) -> None:
    with pytest.raises(UserError, match="makes the scores overflow"):
        distribution(torch.tensor(logits), Sampling(**setting), [0, 1])
