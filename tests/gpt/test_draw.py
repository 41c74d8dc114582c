"""The way of fixed shapes from logits to a token, against the one that looks at the numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gpt.draw import FAST, NAMES_TOKENS, Race, SamplingTensors, choose, draw_from_logits, race
from gpt.errors import UserError
from gpt.prediction import Prediction, highest_first, predict
from gpt.sampling import distribution, draw
from gpt.settings import Sampling
from tests.gpt.test_sampling import logits_strategy
from tests.gpt.test_settings import settings_strategy


def dials(sampling: Sampling, path: list[int], n_steps: int = 1) -> SamplingTensors:
    found = SamplingTensors(10, n_steps, torch.device("cpu"))
    found.set(sampling, path, n_steps)
    return found


def drawn(
    logits: torch.Tensor, order: torch.Tensor | None, sampling: SamplingTensors, step: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    return draw_from_logits(logits, order, sampling, sampling.noise(torch.tensor(step)))


def off_borders(values: list[float], sampling: Sampling) -> tuple[torch.Tensor, Sampling]:
    """Beside round numbers, at which rounding would decide what just stays."""
    if sampling.top_p < 1:
        sampling = replace(sampling, top_p=sampling.top_p * 0.99997)
    sampling = replace(sampling, min_p=sampling.min_p * 0.99997)
    if any(values):  # a boost that rounding swallows or not, as the sums are ordered
        boosted = tuple((ids, nats) for ids, nats in sampling.boosted if abs(nats) > 1e-4)
        sampling = replace(sampling, boosted=boosted)
    return torch.tensor(values).mul(64).round().div(64), sampling


@settings(deadline=None)  # the first call loads what torch needs
@example([0.0] * 10, Sampling(top_p=0.5, boosted=(((5,), 1e-15),)), [0])  # no probability shows it
@example([0.0] * 9 + [1.0], Sampling(temperature=1.7, top_p=0.5, boosted=(((0,), -1e-35),)), [0])
@given(logits_strategy, settings_strategy, st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_it_draws_what_the_stages_draw(
    values: list[float], sampling: Sampling, path: list[int]
) -> None:
    logits, sampling = off_borders(values, sampling)
    expected = distribution(logits, sampling, path)[-1].logprobs
    order = highest_first(logits)
    for known in (None, order)[: 1 if sampling.active & NAMES_TOKENS else 2]:
        token_id, final = drawn(logits, known, dials(sampling, path))
        assert int(token_id) == draw(expected, sampling.seed, len(path))
        torch.testing.assert_close(final, expected, atol=1e-4, rtol=1e-4)


@settings(deadline=None)
@given(
    logits_strategy, settings_strategy, st.lists(st.integers(0, 9), max_size=6), st.integers(1, 10)
)
def test_a_look_at_few_tokens_draws_what_the_stages_draw(
    values: list[float], sampling: Sampling, context: list[int], at_hand: int
) -> None:
    logits, sampling = off_borders(values, sampling)
    final = distribution(logits, sampling, context)[-1].logprobs
    *rest, best, ids = predict(logits[None])
    prediction = Prediction(*rest, best[:, :at_hand], ids[:, :at_hand])  # type: ignore[call-arg]
    for compiled in (None, race):
        drawn = choose(prediction, sampling, context, 3, compiled)
        assert drawn.token_id == draw(final, sampling.seed, 3)
        found = [drawn.logprob(i) for i in range(10)]
        expected = [None if p == -math.inf else p for p in final.tolist()]
        assert found == [p if p is None else pytest.approx(p, abs=1e-5) for p in expected]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.0),
        Sampling(top_k=20),
        Sampling(temperature=1.5, top_p=0.95),
        Sampling(min_p=0.05),
    ],
)
def test_settings_that_leave_few_need_a_look_at_few(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = torch.linspace(0, 90, 300)[torch.randperm(300)]
    final = distribution(logits, sampling, [])[-1].logprobs
    monkeypatch.delattr("gpt.draw.distribution")
    drawn = choose(predict(logits[None]), sampling, [], 7)
    assert drawn.token_id == draw(final, sampling.seed, 7)
    found = [drawn.logprob(i) for i in range(300)]
    assert [p is None for p in found] == final.isneginf().tolist()


SLOW = [
    {"presence_penalty": 0.5},
    {"frequency_penalty": 0.5},
    {"repetition_penalty": 1.5, "penalty_window": 2},
    {"dry_multiplier": 2.0},
    {"dynatemp_range": 0.5},
    {"top_n_sigma": 0.5},
    {"typical_p": 0.5},
    {"xtc_probability": 1.0},
    {"mirostat_tau": 1.0},
    {"temperature": 2.0, "top_k": 5, "top_p": 0.7, "order": ("top_p", "temperature")},
]
"""Settings that the fast ways do not know."""


@pytest.mark.parametrize("values", SLOW, ids=lambda values: next(iter(values)))
@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("compiled", [None, race])
def test_a_setting_that_the_fast_ways_do_not_know_is_left_to_the_stages(
    values: dict[str, Any], temperature: float, compiled: Race | None
) -> None:
    path, breakers = [1, 2, 3, 1, 2, 3, 1, 2], {9}
    differs = False
    for seed in range(30):
        logits = torch.randn(10, generator=torch.manual_seed(seed)) * 2
        # With temperature 0 or top-k 3, few tokens are enough for the fast ways.
        sampling = Sampling(**{"temperature": temperature, "top_k": 3, "seed": seed, **values})
        final = distribution(logits, sampling, path, breakers)[-1].logprobs
        prediction = predict(logits[None])
        drawn = choose(prediction, sampling, path, len(path), compiled, breakers)
        assert drawn.token_id == draw(final, seed, len(path))
        assert drawn.logprob(drawn.token_id) == float(final[drawn.token_id])
        plain = replace(Sampling(temperature=sampling.temperature, top_k=sampling.top_k), seed=seed)
        without = distribution(logits, plain, path)[-1].logprobs
        differs |= not torch.allclose(final.exp(), without.exp(), atol=1e-3)
    assert differs or temperature == 0, "a setting without effect would show nothing"


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.8, top_p=0.95),
        Sampling(temperature=0.8, top_k=5, order=("top_p", "min_p")),
        Sampling(temperature=0.8, xtc_threshold=0.3, dry_base=3.0, penalty_window=5),
    ],
)
def test_settings_without_effect_leave_the_fast_ways_open(sampling: Sampling) -> None:
    assert sampling.active <= FAST


def test_each_step_throws_dice_of_its_own() -> None:
    set_to = dials(Sampling(seed=5), [1, 2, 3], 50)
    zeros = torch.zeros(10)
    found = [int(drawn(zeros, None, set_to, step)[0]) for step in range(50)]
    assert found == [draw(torch.zeros(10).log_softmax(0), 5, 3 + step) for step in range(50)]


def test_ties_for_the_last_place_go_to_the_lowest_ids() -> None:
    zeros = torch.zeros(10)
    for order in (None, highest_first(zeros)):
        _, final = drawn(zeros, order, dials(Sampling(top_k=3), [0]))
        assert final.exp().nonzero()[:, 0].tolist() == [0, 1, 2]


def test_a_vocabulary_that_is_banned_is_an_error() -> None:
    with pytest.raises(UserError, match="every token"):
        dials(Sampling(banned=tuple((i,) for i in range(10))), [0])
