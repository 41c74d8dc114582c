"""Networks with weights in fewer bits, compared with the exact network."""

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
from gpt.weights.products import (
    INTEGER_PRODUCTS,
    IntegerProduct,
    fastest_integer_product,
    product,
)
from gpt.weights.quantize import DTYPES, SmallGPT, dequantize, quantize
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
    "llama": {
        "n_kv_head": 1,
        "norm": "rmsnorm",
        "bias": False,
        "positions": "rotary",
        "rope_scaling": "llama3",
        "rope_factor": 4.0,
        "rope_original": 8,
        "gated": True,
        "activation": "silu",
    },
    "qwen": {
        "n_kv_head": 1,
        "head_dim": 12,
        "qk_norm": True,
        "qkv_bias": True,
        "norm": "rmsnorm",
        "bias": False,
        "positions": "rotary",
        "rope_scaling": "linear",
        "rope_factor": 2.0,
        "gated": True,
        "activation": "silu",
    },
    "neox": {
        "parallel": True,
        "positions": "rotary",
        "rotary_dim": 4,
        "activation": "gelu",
        "tied": False,
    },
}
"""Names of families → fields with which a network has all of their parts."""
BOUNDS = {"float16": 1.5e-4, "bfloat16": 1.5e-2, "int8": 3e-2}
"""Largest mean KL divergence from float32, in nats per token. Random weights amplify rounding. A
matrix that is left out causes more than 0.1, see below."""


def in_floats(digits: Tensor, weight: Tensor) -> Tensor:
    """What an IntegerProduct should return."""
    high, low = (digits.float() @ weight.float().T).chunk(2)
    return high.add(low, alpha=1 / 254)


def is_exact(method: IntegerProduct) -> bool:
    """Whether this processor's integer sums do not overflow."""
    digits, weight = (torch.full((n, 64), 127, dtype=torch.int8) for n in (2, 8))
    return torch.equal(method(digits, weight), in_floats(digits, weight))


METHODS = [None, *filter(is_exact, INTEGER_PRODUCTS)]
"""Methods for int8 that work on this processor. None: float32."""


def stored(model: GPT, dtype: str) -> GPT:
    """The same numbers in another dtype."""
    small = SmallGPT(model.config, DTYPES[dtype]).eval().requires_grad_(False)
    targets = small.state_dict()
    for name, weight in model.state_dict().items():
        if targets[name].dtype == torch.int8:
            scale = targets[name.removesuffix("weight") + "scale"]
            targets[name][:], scale[:] = quantize(weight)
        else:
            targets[name][:] = weight
    return small


def divergence(exact: Tensor, other: Tensor) -> float:
    """Mean KL divergence of logits (…, V)."""
    p, q = exact.double().log_softmax(-1), other.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).mean().item()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", BOUNDS)
def test_the_distribution_is_almost_that_of_float32(dtype: str, variant: str) -> None:
    model = random_model(**WIDER, **VARIANTS[variant])
    model.wte.weight.mul_(0.3)  # predictions as certain as a trained network's
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
    # With 16 bits, a chunk of one token is rounded differently; the bounds allow for that.
    assert divergence(expected, torch.cat(found, dim=1)) < (
        1e-5 if dtype == "int8" else 2 * BOUNDS[dtype]
    )


def test_a_matrix_that_is_left_out_exceeds_every_bound() -> None:
    model = random_model(**WIDER)
    model.wte.weight.mul_(0.3)
    ids = torch.randint(101, (2, 30))
    exact = model(ids)
    model.h[0].attn.proj.weight.zero_()
    assert divergence(exact, model(ids)) > 3 * max(BOUNDS.values())


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_logits_far_from_zero_keep_their_differences(dtype: str) -> None:
    """GPT-2's are around -100, where float16 has steps of a sixteenth."""
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
    st.sampled_from(METHODS),
)
def test_products_of_int8_are_exact_in_the_weights(
    n_out: int, n_in: int, rows: int, seed: int, method: IntegerProduct | None
) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight, scale = quantize(torch.randn(n_out, n_in, generator=generator))
    x = torch.randn(rows, n_in, generator=generator) * 10
    exact = x.double() @ dequantize(weight, scale).double().T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpt.weights.products.fastest_integer_product", lambda: method)
        error = (product(x, weight, scale) - exact).abs()
    # The error of an activation is at most one step of its low digit.
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
def test_one_position_is_multiplied_by_the_fastest_method(
    taken: tuple[float, ...], floats: float, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = [partial(in_floats) for _ in taken]
    seconds = iter([*taken, floats])
    monkeypatch.setattr("gpt.weights.products.INTEGER_PRODUCTS", methods)
    monkeypatch.setattr("gpt.weights.products.least_seconds", lambda call: next(seconds))
    assert fastest_integer_product.__wrapped__() is [*methods, None][expected]


def test_integers_that_overflow_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like those of x86 before VNNI, which adds two products of bytes in 16 bits."""

    def saturating(digits: Tensor, weight: Tensor) -> Tensor:
        unsigned = digits.float() + 128  # one factor has no sign
        pairs = unsigned[:, None].unflatten(-1, (-1, 2)) * weight.unflatten(-1, (-1, 2))
        sums = pairs.sum(-1).clamp(-(2**15), 2**15 - 1).sum(-1)
        high, low = (sums - 128 * weight.float().sum(-1)).chunk(2)
        return high.add(low, alpha=1 / 254)

    few = torch.tensor([[1, 2, -3, 4], [5, 6, -7, 8]], dtype=torch.int8)
    assert torch.equal(saturating(few, few), in_floats(few, few))
    monkeypatch.setattr("gpt.weights.products.least_seconds", lambda call: 1.0)
    monkeypatch.setattr("gpt.weights.products.INTEGER_PRODUCTS", [in_floats])
    assert fastest_integer_product.__wrapped__() is in_floats
    monkeypatch.setattr("gpt.weights.products.INTEGER_PRODUCTS", [in_floats, saturating])
    assert fastest_integer_product.__wrapped__() is None


def test_quantised_numbers_are_the_nearest_of_their_row() -> None:
    weight = torch.randn(7, 50)
    weight[3] = 0
    steps, scale = quantize(weight)
    assert ((dequantize(steps, scale) - weight).abs() <= scale[:, None] * 0.5001).all()
    assert steps.abs().amax(1).tolist() == [127, 127, 127, 0, 127, 127, 127]
    again = quantize(dequantize(steps, scale))
    assert torch.equal(again[0], steps)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", models.DTYPES)
def test_nan_and_infinity_stay_so(
    dtype: str, bad: float, method: IntegerProduct | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.weights.products.fastest_integer_product", lambda: method)
    weight = torch.randn(5, 8)
    stored_weight, scale = quantize(weight) if dtype == "int8" else (weight.to(DTYPES[dtype]), None)
    x = torch.randn(1, 8)
    x[0, 2] = bad
    assert not product(x, stored_weight, scale).isfinite().any()


@pytest.mark.parametrize("method", METHODS)
def test_rows_are_multiplied_alike_one_by_one_and_together(
    method: IntegerProduct | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.weights.products.fastest_integer_product", lambda: method)
    weight, scale = quantize(torch.randn(33, 48))
    x = torch.randn(6, 48)
    together = product(x, weight, scale)
    alone = torch.cat([product(row[None], weight, scale) for row in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=0 if method else 1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_vector_of_zeros_gives_zeros(
    method: IntegerProduct | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.weights.products.fastest_integer_product", lambda: method)
    weight, scale = quantize(torch.randn(5, 8))
    x = torch.zeros(3, 8)
    x[1] = 1e-42  # so small that a 127th of it is almost 0
    assert product(x, weight, scale).abs().max() < 1e-38


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_a_matrix_with_many_rows_is_multiplied_in_parts(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.randn(33, 48)
    stored_weight, scale = quantize(weight) if dtype == "int8" else (weight.half(), None)
    x = torch.randn(2, 48)
    whole = product(x, stored_weight, scale)
    monkeypatch.setattr("gpt.weights.products.ROWS_AT_ONCE", 7)
    monkeypatch.setattr("gpt.weights.products._N_FLOATS", 7 * 48)
    torch.testing.assert_close(product(x, stored_weight, scale), whole)
