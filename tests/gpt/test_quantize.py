"""Networks with weights in fewer bits, compared with the exact network."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpt import checkpoint, models
from gpt.errors import UserError
from gpt.model import GPT
from gpt.tokenizer import CharTokenizer
from gpt.weights import groups, products
from gpt.weights.loud import loud_columns
from gpt.weights.products import (
    INTEGER_PRODUCTS,
    IntegerProduct,
    fastest_integer_product,
    product,
)
from gpt.weights.quantize import PACKED, Matrix, SmallGPT, dequantize, quantize
from tests.conftest import CHARACTERS, random_model

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
BOUNDS = {"float16": 1.5e-4, "bfloat16": 1.5e-2, "int8": 3e-2, PACKED: 3e-2}
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
    small = SmallGPT(model.config, dtype).eval().requires_grad_(False)
    targets = small.state_dict()
    for name, weight in model.state_dict().items():
        module = small.get_submodule(name.rpartition(".")[0])
        if isinstance(module, Matrix) and name.endswith(".weight"):
            fill(module, weight)
        else:
            targets[name][:] = weight
    return small


def fill(matrix: Matrix, weight: Tensor) -> Matrix:
    """Store a weight (out, in), with its last columns as the loud ones."""
    for tensor in matrix.parameters():
        tensor.zero_()
    if matrix.columns is not None:
        n = len(matrix.columns)
        matrix.columns[:, 0] = torch.arange(weight.size(1) - n, weight.size(1))
    matrix.write(0, weight.clone())
    return matrix


def matrix_of(weight: Tensor, dtype: str) -> Matrix:
    """A weight (out, in) as a matrix in a dtype."""
    n_out, n_in = weight.shape
    return fill(Matrix(n_out, n_in, dtype), weight)


def numbers(matrix: Matrix) -> Tensor:
    """The numbers that a matrix stands for, float64."""
    return matrix.rows(torch.arange(matrix.shape[0])).double()


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


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", ["int8", "int4", PACKED])
def test_the_network_computes_with_the_numbers_that_are_stored(dtype: str, variant: str) -> None:
    """What few bits cost comes from rounding the weights alone."""
    small = stored(random_model(**WIDER, **VARIANTS[variant]), dtype)
    small.cache_dtype = torch.float32
    exact = GPT(small.config).eval().requires_grad_(False)
    for name, weight in exact.state_dict().items():
        module = small.get_submodule(name.rpartition(".")[0])
        if isinstance(module, Matrix) and name.endswith(".weight"):
            weight[:] = numbers(module)
        else:
            weight[:] = small.get_parameter(name)
    ids, cache = torch.randint(101, (1, 20)), small.new_cache()
    expected = exact(ids)
    bound = 1e-5 if dtype == "int8" else 1e-7  # activations of 16 bits
    assert divergence(expected, small(ids)) < bound
    parts = [small(part, cache) for part in ids.split([1, 1, 12, 6], dim=1)]
    assert divergence(expected, torch.cat(parts, dim=1)) < bound


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


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_logits_round_no_hidden_state_if_they_must_not(dtype: str) -> None:
    table = stored(random_model(**WIDER), dtype)
    hidden = torch.randn(64)
    exact = hidden.double() @ table.wte(torch.arange(101)).double().T
    rounded = (table.logits(hidden) - exact).abs().max()
    assert isinstance(table, SmallGPT)
    table.rounds_states = False
    for states in (hidden, hidden.expand(3, -1)):
        assert (table.logits(states) - exact).abs().max() < min(1e-5, rounded / 20)


SMALL = ("int8", "int4", PACKED)


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each method for int8."""
    monkeypatch.setattr(products, "fastest_integer_product", lambda: request.param)


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize("n_in", [1, 2, 192, 1024, 3000])
def test_the_largest_digits_and_weights_are_summed_without_overflow(n_in: int) -> None:
    for sign in (1, -1):
        matrix = matrix_of(torch.full((5, n_in), sign * 2.0), "int8")
        y = product(torch.ones(1, n_in), matrix)
        torch.testing.assert_close(y, torch.full((1, 5), sign * 2.0 * n_in))


@pytest.mark.usefixtures("method")
def test_a_vector_of_zeros_gives_zeros() -> None:
    x = torch.zeros(3, 48)
    x[1] = 1e-42  # so small that a 127th of it is almost 0
    assert product(x, matrix_of(torch.randn(5, 48), "int8")).abs().max() < 1e-38


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


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 60) | st.sampled_from([192, 256, 384, 400]),
    st.sampled_from([1, 2, 12, 40]),
    st.integers(0, 2**31),
    st.sampled_from(SMALL),
    st.sampled_from(METHODS),
)
def test_products_are_those_of_the_numbers_that_are_stored(
    n_out: int, half: int, n: int, seed: int, dtype: str, method: IntegerProduct | None
) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = matrix_of(torch.randn(n_out, 2 * half, generator=generator), dtype)
    x = torch.randn(1, n, 2 * half, generator=generator) * 10
    exact = x.double() @ numbers(matrix).T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "fastest_integer_product", lambda: method)
        found, rounded = (product(x, matrix, exact=exact) for exact in (True, False))
    assert found.shape == (1, n, n_out) and found.dtype == torch.float32
    size = x.abs().double() @ numbers(matrix).abs().T
    # The error of an activation is at most one step of its low digit.
    digit = x.abs().amax(-1, keepdim=True) / 127 / 254 * numbers(matrix).abs().sum(1)
    of_digits = digit if method and dtype == "int8" else 0
    assert ((found - exact).abs() <= 1.01 * of_digits + 1e-5 * size + 1e-6).all()
    # What bfloat16 adds to the error is below a 64th of what is added up.
    assert ((rounded - exact).abs() <= of_digits + size / 64 + 1e-6).all()


@pytest.mark.parametrize("dtype", SMALL)
def test_many_positions_are_multiplied_in_bfloat16_if_that_is_faster(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = matrix_of(torch.randn(7, 64), dtype)
    x = torch.randn(40, 64)
    for faster in (False, True):
        monkeypatch.setattr(products, "bfloat16_is_faster", lambda faster=faster: faster)
        assert torch.equal(product(x, matrix), product(x, matrix, exact=True)) != faster
        few = x[:8]
        assert torch.equal(product(few, matrix), product(few, matrix, exact=True))


@pytest.mark.parametrize(("share", "expected"), [(0.7, True), (0.9, False)])
def test_whether_bfloat16_is_faster_is_measured(
    share: float, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([share, 1.0])
    monkeypatch.setattr(products, "least_seconds", lambda call: (call(), next(seconds))[1])
    assert products.bfloat16_is_faster.__wrapped__() is expected


@pytest.mark.parametrize("n_in", [24, 192, 193, 400, 768])
def test_int8_numbers_are_the_nearest_of_their_group(n_in: int) -> None:
    weight = torch.randn(7, n_in)
    weight[3] = 0
    steps, scale = groups.to_int8(weight.clone())
    size = groups.group_size(n_in, 8)
    assert n_in % size == 0 and size <= 192 and scale.shape == (7, n_in // size)
    error = (groups.from_int8(steps, scale) - weight).abs().view(7, -1, size)
    assert (error <= scale[..., None] * 0.5001).all()
    largest = steps.view(7, -1, size).abs().amax(-1)
    assert (largest[[0, 1, 2, 4, 5, 6]] == 127).all() and (largest[3] == 0).all()
    assert torch.equal(groups.to_int8(groups.from_int8(steps, scale))[0], steps)


@pytest.mark.parametrize("n_in", [24, 64, 66, 384])
def test_int4_numbers_are_better_than_the_nearest_of_an_even_grid(n_in: int) -> None:
    weight = torch.randn(50, n_in)
    weight[3], weight[4] = 0, 2.5
    size = groups.group_size(n_in, 4)
    found = groups.from_int4(*groups.to_int4(weight.clone()))
    torch.testing.assert_close(found[3:5], weight[3:5])
    parts = weight.view(50, -1, size)
    low, high = parts.aminmax(dim=-1, keepdim=True)
    step = ((high - low) / 15).clamp_min(1e-9)
    even = ((parts - low) / step).round() * step + low
    assert (found - weight).square().sum() < (even.view_as(weight) - weight).square().sum()


def test_int4_needs_an_even_width() -> None:
    with pytest.raises(UserError, match="even width, not 33; use --dtype int8"):
        SmallGPT(random_model(n_embd=33, n_head=3).config, "int4")


@pytest.mark.parametrize("dtype", SMALL)
def test_loud_columns_are_almost_exact(dtype: str) -> None:
    weight = torch.randn(9, 160)
    matrix = matrix_of(weight, dtype)
    assert matrix.columns is not None and len(matrix.columns) == groups.N_LOUD
    error = (numbers(matrix) - weight).abs().amax(0)
    assert error[-groups.N_LOUD :].max() < 1e-3 < error[: -groups.N_LOUD].median()


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [*models.MEMORY_DTYPES, PACKED])
@pytest.mark.parametrize("n", [1, 40])
def test_nan_and_infinity_stay_so(n: int, dtype: str, bad: float) -> None:
    matrix = matrix_of(torch.randn(5, 40), dtype)
    x = torch.randn(n, 40)
    x[:, 2] = bad
    assert not product(x, matrix).isfinite().any()


@pytest.mark.usefixtures("method")
@pytest.mark.parametrize("dtype", ["float16", *SMALL])
def test_rows_are_multiplied_alike_one_by_one_and_together(dtype: str) -> None:
    matrix = matrix_of(torch.randn(33, 48), dtype)
    x = torch.randn(6, 48).half().float()
    alone = torch.cat([product(row[None], matrix) for row in x])
    tolerance = 1e-2 if dtype == "float16" else 1e-5  # a kernel of its own rounds its sums
    torch.testing.assert_close(product(x, matrix), alone, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float16", "int8", "int4"])
def test_a_matrix_with_many_rows_is_multiplied_in_parts(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix, x = matrix_of(torch.randn(33, 48), dtype), torch.randn(2, 48)
    whole = product(x, matrix)
    monkeypatch.setattr(products, "_N_FLOATS", 7 * 48)
    torch.testing.assert_close(product(x, matrix), whole)


def test_quantised_rows_of_files_are_the_nearest_of_their_row() -> None:
    weight = torch.randn(7, 50)
    weight[3] = 0
    steps, scale = quantize(weight)
    assert ((dequantize(steps, scale) - weight).abs() <= scale[:, None] * 0.5001).all()
    assert steps.abs().amax(1).tolist() == [127, 127, 127, 0, 127, 127, 127]
    assert torch.equal(quantize(dequantize(steps, scale))[0], steps)


@pytest.mark.parametrize("is_loaded", [False, True])
def test_the_loud_columns_are_those_with_the_largest_inputs(
    tmp_path: Path, is_loaded: bool
) -> None:
    model = random_model(n_embd=48, n_head=4)
    model.get_parameter("h.0.ln_1.weight")[[5, 40]] = torch.tensor([50.0, 90.0])
    model.get_parameter("ln_f.weight")[7] = 60.0
    if is_loaded:  # the network that conversion measures
        checkpoint.save(tmp_path / "m", model, CharTokenizer(CHARACTERS))
        model = checkpoint.load_network(tmp_path / "m")
    found = loud_columns(model)
    assert set(found) == {
        "wte",
        *(
            f"h.{i}.{name}"
            for i in range(2)
            for name in ("attn.qkv", "attn.proj", "mlp.fc", "mlp.proj")
        ),
    }
    assert found["h.0.attn.qkv"][:2] == [40, 5]
    assert found["wte"][0] == 7
    assert len(found["h.1.mlp.proj"]) == groups.N_LOUD and len(found["wte"]) == 6


def test_loud_columns_make_large_activations_cheap() -> None:
    """The cause that makes whole rows of int8 expensive for some models."""
    model = random_model(n_embd=96, n_head=4, vocab_size=101, tied=False)
    model.wte.weight.mul_(0.3)
    blocks: Any = model.h
    for block in blocks:
        block.ln_1.weight[[3, 50]] = 60.0
        block.attn.qkv.weight[:, [3, 50]] /= 20
    ids = torch.randint(101, (2, 30))
    exact = model(ids)
    known = loud_columns(model)
    costs = []
    for columns in ({}, known):
        small = SmallGPT(model.config, "int8").eval().requires_grad_(False)
        small.load_state_dict(stored(model, "int8").state_dict())
        for name, module in small.named_modules():
            if isinstance(module, Matrix) and name in known:
                assert module.columns is not None
                chosen = columns.get(name) or list(range(60, 60 + len(module.columns)))
                module.columns[:, 0] = torch.tensor(chosen)
                module.write(0, model.get_parameter(f"{name}.weight").clone())
        costs.append(divergence(exact, small(ids)))
    assert costs[1] < costs[0] / 3
