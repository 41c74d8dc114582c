"""What the candidates of a server say of the distribution after the settings is exact, or left out.

The reference knows all tokens.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.remote.odds import after_settings, plan
from gpt.remote.server import Reading
from gpt.settings import Sampling


def _random(seed: int, n: int, spread: float) -> list[float]:
    source = random.Random(seed)
    return [source.gauss(0, spread) for _ in range(n)]


logits = st.builds(
    _random,
    st.integers(0, 10**6),
    st.integers(2, 40),
    st.sampled_from([0.3, 1.5, 4.0]),
)
sampling = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.3, 0.8, 1.0, 1.5]),
    top_k=st.sampled_from([0, 0, 1, 3, 9]),
    top_p=st.sampled_from([1.0, 0.95, 0.8, 0.3]),
    min_p=st.sampled_from([0.0, 0.05, 0.4]),
    banned=st.sampled_from([(), ((0,),), ((1,), (30,))]),
    boosted=st.sampled_from([(), (((0,), 2.0),), (((35,), 9.0),)]),
)


def _normal(values: dict[int, float]) -> dict[int, float]:
    total = math.fsum(values.values())
    return {i: value / total for i, value in values.items()}


def _reference(p: dict[int, float], sampling: Sampling) -> dict[int, float]:
    """The same settings on the whole distribution, each from its definition."""
    p = _normal({i: v for i, v in p.items() if (i,) not in sampling.banned})
    for (token_id,), nats in sampling.boosted:
        if token_id in p:
            p[token_id] *= math.exp(nats)
    best = sorted(p, key=lambda i: (-p[i], i))
    if sampling.temperature == 0:
        return {best[0]: 1.0}
    p = _normal({i: (v / max(p.values())) ** (1 / sampling.temperature) for i, v in p.items()})
    for name in sampling.stages:
        p = _normal(_CUTS[name](p, best, sampling) if name in _CUTS else p)
    return p


def _top_k(p: dict[int, float], best: list[int], sampling: Sampling) -> dict[int, float]:
    return {i: p[i] for i in [i for i in best if i in p][: sampling.top_k]}


def _top_p(p: dict[int, float], best: list[int], sampling: Sampling) -> dict[int, float]:
    kept, mass = dict[int, float](), 0.0
    for i in (i for i in best if i in p):
        if kept and mass >= sampling.top_p:
            break
        kept[i] = p[i]
        mass += p[i]
    return kept


def _min_p(p: dict[int, float], best: list[int], sampling: Sampling) -> dict[int, float]:
    return {i: v for i, v in p.items() if v >= sampling.min_p * max(p.values())}


_CUTS = {"top_k": _top_k, "top_p": _top_p, "min_p": _min_p}


by_rank = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([-6.0, -1.5, -0.2, 2.0])), max_size=3
)


@settings(max_examples=500)
@given(logits, sampling, by_rank, st.integers(1, 12), st.booleans())
def test_it_is_exact_or_empty(
    logits: list[float],
    sampling: Sampling,
    by_rank: list[tuple[int, float]],
    n: int,
    like_vllm: bool,
) -> None:
    order = ("temperature", "min_p", "top_k", "top_p") if like_vllm else ()
    p = _normal({i: math.exp(value) for i, value in enumerate(logits)})
    best = sorted(p, key=lambda i: (-p[i], i))
    boosted = tuple(((best[rank],), nats) for rank, nats in by_rank if rank < len(best))
    sampling = replace(sampling, boosted=sampling.boosted + boosted)
    knows_size = n % 2 == 0
    top = tuple((i, math.log(p[i])) for i in best[:n])
    found = after_settings(
        Reading(best[0], top[0][1], 1, top), len(p) * knows_size, plan(sampling, order), [5]
    )
    if not found:
        return
    sampling = replace(sampling, order=order)
    if sampling.active - {"order"}:
        wanted = _reference(p, sampling)
        for top_p in (sampling.top_p - 1e-9, sampling.top_p + 1e-9):
            top_p = min(top_p, 1.0) if sampling.top_p < 1 else 1.0
            if wanted.keys() != _reference(p, replace(sampling, top_p=top_p)).keys():
                return  # rounding decides
        assert found.keys() == wanted.keys()
    else:
        wanted = {i: p[i] for i in best[:n]}
    for i, value in found.items():
        assert math.exp(value) == pytest.approx(wanted[i], abs=1e-6)


@pytest.mark.parametrize(
    "sampling",
    [Sampling(top_k=3), Sampling(min_p=0.1), Sampling(temperature=0), Sampling(top_p=0.9)],
)
def test_a_candidate_with_less_than_others_may_have(sampling: Sampling) -> None:
    """A negative boost puts a candidate below tokens that the server did not name."""
    top = tuple((i, math.log(p)) for i, p in enumerate([0.4, 0.3, 0.2]))
    lowered = replace(sampling, boosted=(((1,), -6.0), ((0,), -9.0 * (sampling.temperature == 0))))
    lowered = replace(lowered, boosted=(*lowered.boosted, ((2,), lowered.boosted[1][1])))
    assert not after_settings(Reading(0, top[0][1], 1, top), 5, plan(lowered, ()), [])
    one = replace(sampling, top_k=1, boosted=(((1,), -6.0),))
    assert after_settings(Reading(0, top[0][1], 1, top), 5, plan(one, ()), []).keys() == {0}


def test_the_default_settings_are_known_if_the_candidates_are_nearly_all() -> None:
    top = tuple((i, math.log(p)) for i, p in enumerate([0.7, 0.2, 0.05, 0.01]))
    found = after_settings(
        Reading(0, top[0][1], 1, top), 50_000, plan(Sampling(temperature=0.8, top_p=0.9), ()), []
    )
    assert found.keys() == {0, 1}


def test_a_rest_that_a_temperature_may_make_large_or_small_is_not_guessed() -> None:
    top = tuple((i, math.log(p)) for i, p in enumerate([0.4, 0.2, 0.1, 0.05]))
    reading = Reading(0, top[0][1], 1, top)
    assert not after_settings(reading, 50_000, plan(Sampling(temperature=0.8, top_p=0.9), ()), [])
    assert after_settings(
        reading, 50_000, plan(Sampling(temperature=0.8, top_p=0.9, top_k=2), ()), []
    )


def test_a_boosted_token_that_is_no_candidate_leaves_nothing_known() -> None:
    top = ((0, math.log(0.6)), (1, math.log(0.3)))
    reading = Reading(0, top[0][1], 1, top)
    assert after_settings(reading, 50, plan(Sampling(top_k=1, boosted=(((0,), 1.0),)), ()), [])
    assert not after_settings(reading, 50, plan(Sampling(top_k=1, boosted=(((9,), 1.0),)), ()), [])


def test_a_banned_token_that_is_no_candidate_leaves_known_what_it_cannot_change() -> None:
    top = ((0, math.log(0.6)), (1, math.log(0.3)), (2, math.log(0.05)))
    reading = Reading(0, top[0][1], 1, top)
    greedy, half, most = Sampling(temperature=0), Sampling(top_p=0.5), Sampling(top_p=0.92)
    for sampling, n in ((greedy, 1), (half, 1), (most, 0)):  # with 9 gone, two may reach 0.92
        for banned, path in ((((9,),), []), (((8, 9),), [8])):
            found = after_settings(
                reading, 50, plan(replace(sampling, banned=banned), ()), list[int](path)
            )
            assert len(found) == n
    found = after_settings(reading, 50, plan(replace(most, banned=((8, 9),)), ()), [7])
    assert len(found) == 3
