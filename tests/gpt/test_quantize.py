"""Networks stored in fewer bits against the exact one."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpt import models
from gpt.model import GPT
from gpt.weights.quantize import (
    DTYPES,
    WAYS,
    SmallGPT,
    Way,
    dequantize,
    fastest_way,
    product,
    quantize,
)
from tests.conftest import random_model

WIDER: dict[str, Any] = {"n_embd": 64, "n_head": 4, "vocab_size": 101}
VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "opt": {"activation": "relu", "embd_dim": 32, "norm_first": False, "final_norm": False},
    "ours": {
        "norm": "rmsnorm",
        "norm_gain": False,
        "bias": False,
        "positions": "rotary",
        "gated": True,
        "activation": "silu",
        "tied": False,
    },
}
BOUNDS = {"float16": 1.5e-4, "bfloat16": 1.5e-2, "int8": 3e-2}
"""Mean KL divergence from float32, in nats a token, for networks like these, whose random weights
blow rounding up; a matrix that is not multiplied at all gives more than 0.1 (below)."""


def in_floats(digits: Tensor, weight: Tensor) -> Tensor:
    """What a Way should give."""
    high, low = (digits.float() @ weight.float().T).chunk(2)
    return high.add(low, alpha=1 / 254)


def is_exact(way: Way) -> bool:
    """Whether this processor's integers do not overflow."""
    digits, weight = (torch.full((n, 64), 127, dtype=torch.int8) for n in (2, 8))
    return torch.equal(way(digits, weight), in_floats(digits, weight))


HERE = [None, *filter(is_exact, WAYS)]
"""How int8 can be multiplied on this processor."""


def stored(model: GPT, dtype: str) -> GPT:
    """The same numbers in another dtype."""
    small = SmallGPT(model.config, DTYPES[dtype]).eval().requires_grad_(False)
    mine, its = small.state_dict(), model.state_dict()
    for name, weight in its.items():
        if mine[name].dtype == torch.int8:
            mine[name][:], mine[name.removesuffix("weight") + "scale"][:] = quantize(weight)
        else:
            mine[name][:] = weight
    return small


def divergence(exact: Tensor, other: Tensor) -> float:
    """Mean KL divergence of logits (…, V)."""
    p, q = exact.double().log_softmax(-1), other.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).mean().item()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", BOUNDS)
def test_the_distribution_is_almost_that_of_float32(dtype: str, variant: str) -> None:
    model = random_model(**WIDER, **VARIANTS[variant])
    model.wte.weight.mul_(0.3)  # as certain as a trained network
    small = stored(model, dtype)
    ids = torch.randint(101, (2, 30))
    exact = model(ids)
    assert divergence(exact, small(ids)) < BOUNDS[dtype]
    one_by_one, cache = [], small.new_cache()
    for i in range(30):
        one_by_one.append(small(ids[:1, i : i + 1], cache)[0, 0])
    assert divergence(exact[0], torch.stack(one_by_one)) < BOUNDS[dtype]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", BOUNDS)
@settings(deadline=None, max_examples=5)
@given(data=st.data())
def test_rounded_keys_and_values_are_the_same_in_any_chunks(
    dtype: str, variant: str, data: st.DataObject
) -> None:
    small = stored(random_model(**WIDER, **VARIANTS[variant]), dtype)
    ids = torch.randint(101, (1, 20))
    once, cache = small.new_cache(), small.new_cache()
    expected = small(ids, once)
    ends = [*sorted(data.draw(st.sets(st.integers(1, 19)))), 20]
    found = [small(ids[:, start:end], cache) for start, end in zip([0, *ends], ends, strict=False)]
    # What comes in a piece of its own takes other roundings in 16 bits, as the bounds say.
    assert divergence(expected, torch.cat(found, dim=1)) < (
        1e-5 if dtype == "int8" else 2 * BOUNDS[dtype]
    )


def test_a_forgotten_matrix_is_beyond_any_rounding() -> None:
    model = random_model(**WIDER)
    model.wte.weight.mul_(0.3)
    ids = torch.randint(101, (2, 30))
    exact = model(ids)
    model.h[0].attn.proj.weight.zero_()
    assert divergence(exact, model(ids)) > 3 * max(BOUNDS.values())


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_logits_far_from_zero_keep_their_differences(dtype: str) -> None:
    """As GPT-2's, which lie around -100, where float16 has steps of a sixteenth."""
    model = random_model(**WIDER)
    direction = torch.nn.functional.normalize(torch.randn(64), dim=0)
    model.wte.weight[:] = 0.2 * torch.randn(101, 64) + 3 * direction
    table = stored(model, dtype)
    weight = table.wte(torch.arange(101)).double()
    hidden = torch.randn(1, 64) - 300 * direction
    exact = hidden.double() @ weight.T
    assert exact.mean() < -500
    assert (table.logits(hidden) - exact).abs().max() < 0.05


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(1, 3),
    st.integers(0, 2**31),
    st.sampled_from(HERE),
)
def test_products_of_int8_are_exact_in_the_weights(
    n_out: int, n_in: int, rows: int, seed: int, way: Way | None
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, scale = quantize(torch.randn(n_out, n_in, generator=generator))
    x = torch.randn(rows, n_in, generator=generator) * 10
    exact = x.double() @ dequantize(weight, scale).double().T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpt.weights.quantize.fastest_way", lambda: way)
        error = (product(x, weight, scale) - exact).abs()
    # Each activation is off by at most the lower digit's step.
    bound = x.abs().amax(1, keepdim=True) / 127 / 254 * dequantize(weight, scale).abs().sum(1)
    assert (error <= bound * 1.01 + 1e-4).all()


@pytest.mark.parametrize("n_in", [1, 2, 1024, 3000])
def test_the_largest_digits_and_weights_are_summed_without_overflow(n_in: int) -> None:
    weight = torch.full((5, n_in), 127, dtype=torch.int8)
    for sign in (1, -1):
        x = torch.full((1, n_in), sign * 1.0)
        y = product(x, weight, torch.ones(5))
        torch.testing.assert_close(y, torch.full((1, 5), sign * 127.0 * n_in))


@pytest.mark.parametrize(
    ("taken", "floats", "expected"),
    [
        ((1, 2, 3), 9, 0),
        ((2, 1, 3), 9, 1),
        ((3, 2, 1), 9, 2),
        ((3, 3, 2), 1.1, 2),
        ((3, 3, 2), 0.9, -1),
    ],
)
def test_one_position_is_multiplied_in_the_way_that_takes_least_time(
    taken: tuple[float, ...], floats: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = [partial(in_floats) for _ in taken]
    seconds = iter([*taken, floats])
    monkeypatch.setattr("gpt.weights.quantize.WAYS", ways)
    monkeypatch.setattr("gpt.weights.quantize.least_seconds", lambda call: next(seconds))
    assert fastest_way.__wrapped__() is [*ways, None][expected]


def test_integers_that_overflow_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of x86 before VNNI, where two products of bytes are added in 16 bits."""

    def saturating(digits: Tensor, weight: Tensor) -> Tensor:
        unsigned = digits.float() + 128  # one of both factors has no sign
        pairs = unsigned[:, None].unflatten(-1, (-1, 2)) * weight.unflatten(-1, (-1, 2))
        sums = pairs.sum(-1).clamp(-(2**15), 2**15 - 1).sum(-1)
        high, low = (sums - 128 * weight.float().sum(-1)).chunk(2)
        return high.add(low, alpha=1 / 254)

    few = torch.tensor([[1, 2, -3, 4], [5, 6, -7, 8]], dtype=torch.int8)
    assert torch.equal(saturating(few, few), in_floats(few, few))
    monkeypatch.setattr("gpt.weights.quantize.least_seconds", lambda call: 1.0)
    monkeypatch.setattr("gpt.weights.quantize.WAYS", [in_floats])
    assert fastest_way.__wrapped__() is in_floats
    monkeypatch.setattr("gpt.weights.quantize.WAYS", [in_floats, saturating])
    assert fastest_way.__wrapped__() is None


def test_quantised_numbers_are_the_nearest_of_their_row() -> None:
    weight = torch.randn(7, 50)
    weight[3] = 0
    steps, scale = quantize(weight)
    assert ((dequantize(steps, scale) - weight).abs() <= scale[:, None] * 0.5001).all()
    assert steps.abs().amax(1).tolist() == [127, 127, 127, 0, 127, 127, 127]
    again = quantize(dequantize(steps, scale))
    assert torch.equal(again[0], steps)


@pytest.mark.parametrize("way", HERE)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", models.DTYPES)
def test_what_is_not_finite_stays_so(
    dtype: str, bad: float, way: Way | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.weights.quantize.fastest_way", lambda: way)
    weight = torch.randn(5, 8)
    stored_weight, scale = quantize(weight) if dtype == "int8" else (weight.to(DTYPES[dtype]), None)
    x = torch.randn(1, 8)
    x[0, 2] = bad
    assert not product(x, stored_weight, scale).isfinite().any()


@pytest.mark.parametrize("way", HERE)
def test_rows_are_multiplied_alike_one_by_one_and_together(
    way: Way | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.weights.quantize.fastest_way", lambda: way)
    weight, scale = quantize(torch.randn(33, 48))
    x = torch.randn(6, 48)
    together = product(x, weight, scale)
    alone = torch.cat([product(row[None], weight, scale) for row in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=0 if way else 1e-5)


@pytest.mark.parametrize("way", HERE)
def test_a_vector_of_zeros_gives_zeros(way: Way | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt.weights.quantize.fastest_way", lambda: way)
    weight, scale = quantize(torch.randn(5, 8))
    x = torch.zeros(3, 8)
    x[1] = 1e-42  # so small that a 127th of it is hardly a number
    assert product(x, weight, scale).abs().max() < 1e-38


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_high_matrix_is_multiplied_part_by_part(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.randn(33, 48)
    stored_weight, scale = quantize(weight) if dtype == "int8" else (weight.half(), None)
    x = torch.randn(2, 48)
    whole = product(x, stored_weight, scale)
    monkeypatch.setattr("gpt.weights.quantize._BLOCK", 7)
    monkeypatch.setattr("gpt.weights.quantize._FLOATS", 7 * 48)
    torch.testing.assert_close(product(x, stored_weight, scale), whole)
