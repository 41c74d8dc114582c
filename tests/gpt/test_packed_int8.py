"""Packed int8 weights, compared with int8 weights in rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt import checkpoint, device, loaded
from gpt.fast import cpu_step
from gpt.fast.build import failure_note
from gpt.fast.cpu_step import is_code_expected, library_paths
from gpt.loaded import RunOptions, load_model
from gpt.model import GPT
from gpt.tokenizer import CharTokenizer
from gpt.weights import packed_int8, read
from gpt.weights.packed_int8 import PACKED_INT8
from gpt.weights.products import IntegerProduct, packed_is_faster, product
from gpt.weights.quantize import SmallGPT, dequantize
from tests.conftest import CHARACTERS, random_model
from tests.gpt.test_quantize import METHODS, VARIANTS, WIDER, divergence, stored

SIZES = st.integers(1, 50) | st.integers(1500, 1700)
"""Rows of matrices that need the fewest blocks, and of some that need more."""


def random_rows(n_out: int, n_in: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-127, 128, (n_out, n_in), dtype=torch.int8, generator=generator)


def packed_model(model: GPT) -> GPT:
    """The same numbers in packed int8."""
    other = SmallGPT(model.config, PACKED_INT8).eval().requires_grad_(False)
    targets, rows = other.state_dict(), stored(model, "int8").state_dict()
    for name, weight in rows.items():
        if targets[name].dtype == PACKED_INT8:
            targets[name][:] = packed_int8.pack(weight)
        else:
            targets[name][:] = weight
    return other


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(1, 9), st.integers(0, 2**31), st.data())
def test_a_table_holds_the_rows_of_its_matrix(
    n_out: int, n_in: int, seed: int, data: st.DataObject
) -> None:
    rows = random_rows(n_out, n_in, seed)
    table = packed_int8.pack(rows)
    assert torch.equal(packed_int8.unpack(table)[:n_out], rows)
    indices = torch.tensor(data.draw(st.lists(st.integers(0, n_out - 1), min_size=1)))
    assert torch.equal(packed_int8.unpack_rows(table, indices), rows[indices])
    # The number of rows written at a time makes no difference.
    ends = [*sorted(data.draw(st.sets(st.integers(1, n_out)))), n_out]
    again = torch.zeros_like(table)
    for start, end in zip([0, *ends], ends, strict=False):
        packed_int8.pack_rows(again, rows[start:end], start)
    assert torch.equal(packed_int8.unpack(again)[:n_out], rows)


@settings(max_examples=60, deadline=None)
@given(
    SIZES, st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**31), st.sampled_from(METHODS)
)
def test_packed_products_are_those_of_the_rows(
    n_out: int, n_in: int, n: int, seed: int, method: IntegerProduct | None
) -> None:
    rows = random_rows(n_out, n_in, seed)
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(n_out, generator=generator)
    x = torch.randn(1, n, n_in, generator=generator) * 10
    exact = x.double() @ dequantize(rows, scale).double().T
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpt.weights.products.fastest_integer_product", lambda: method)
        found = product(x, packed_int8.pack(rows), scale)
    assert found.shape == (1, n, n_out)
    # With many positions, the error of an activation is at most one step of its low digit.
    digit = x.abs().amax(-1, keepdim=True) / 127 / 254 if n > 8 and method else torch.zeros(())
    bound = digit * dequantize(rows, scale).abs().sum(1)
    assert ((found - exact).abs() <= bound * 1.01 + 1e-2 * scale).all()


def test_a_matrix_with_many_rows_is_unpacked_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, scale, x = random_rows(1700, 48, 1), torch.rand(1700), torch.randn(20, 48)
    monkeypatch.setattr("gpt.weights.products.ROWS_AT_ONCE", 1)
    torch.testing.assert_close(product(x, packed_int8.pack(rows), scale), product(x, rows, scale))


@pytest.mark.parametrize("n", [1, 20])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_and_infinity_stay_so(n: int, bad: float) -> None:
    x = torch.randn(n, 8)
    x[:, 2] = bad
    rows = random_rows(5, 8, 1)
    assert not product(x, packed_int8.pack(rows), torch.ones(5)).isfinite().any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_packed_network_computes_what_the_network_in_rows_does(variant: str) -> None:
    model = random_model(**WIDER, **VARIANTS[variant])
    model.wte.weight.mul_(0.3)
    rows, table = stored(model, "int8"), packed_model(model)
    ids = torch.randint(101, (1, 30))
    expected, cache = rows(ids), table.new_cache()
    chunks = [table(chunk, cache) for chunk in ids.split([1, 2, 20, 7], dim=1)]
    assert divergence(expected, table(ids)) < 1e-6
    assert divergence(expected, torch.cat(chunks, dim=1)) < 1e-5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_any_dtype_is_packed_while_it_is_read(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "PIECE", 100)  # several pieces a matrix
    model = random_model(tied=False)
    checkpoint.save(tmp_path / "m", model, CharTokenizer(CHARACTERS), dtype=dtype)
    rows = checkpoint.load(tmp_path / "m", dtype="int8").model.state_dict()
    tables = checkpoint.load(tmp_path / "m", dtype="int8", packed=True).model.state_dict()
    assert rows.keys() == tables.keys()
    for name, weight in rows.items():
        table = tables[name]
        if weight.dtype == torch.int8:
            assert table.dtype == PACKED_INT8
            table = packed_int8.unpack(table)[: len(weight)]
        torch.testing.assert_close(table, weight, rtol=1e-6, atol=0)
    other = checkpoint.load(tmp_path / "m", dtype="bfloat16", packed=True).model
    assert other.wte.weight.dtype == torch.bfloat16


@pytest.mark.parametrize(("share", "expected"), [(0.7, True), (0.9, False)])
def test_whether_packed_weights_are_faster_is_measured(
    share: float, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([share, 1.0])
    monkeypatch.setattr(
        "gpt.weights.products.least_seconds", lambda call: (call(), next(seconds))[1]
    )
    monkeypatch.setattr("gpt.weights.products.fastest_integer_product", lambda: None)
    assert packed_is_faster.__wrapped__() is expected


def test_without_a_compiler_packed_weights_decide_whether_int8_is_fast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []

    def product(x: torch.Tensor, weight: torch.Tensor, scale: torch.Tensor | None) -> None:
        seen.append(weight.dtype)

    monkeypatch.setattr(device, "product", product)
    monkeypatch.setattr(device, "packed_is_faster", lambda: True)
    for found, dtype in (None, PACKED_INT8), ("g++", torch.int8):
        seen.clear()
        monkeypatch.setattr(device, "compiler", lambda found=found: found)
        device.fast_storage("int8")
        assert set(seen) == {dtype, torch.float32}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, PACKED_INT8),
        ({"faster": False}, torch.int8),
        ({"expected": True}, torch.int8),
        ({"small": 10**9}, torch.int8),
        ({"dtype": "float16"}, torch.float16),
    ],
)
def test_large_int8_weights_are_packed_if_no_compiled_code_reads_them(
    changes: dict[str, Any],
    expected: torch.dtype,
    tiny_directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device, "SMALL_PASS", changes.get("small", 0))
    monkeypatch.setattr(loaded, "packed_is_faster", lambda: changes.get("faster", True))
    monkeypatch.setattr(
        loaded, "is_code_expected", lambda *_, build: changes.get("expected", False)
    )
    found = load_model(tiny_directory, RunOptions("cpu", changes.get("dtype", "int8")))
    assert found.checkpoint.model.wte.weight.dtype == expected
    assert found.how()["dtype"] == changes.get("dtype", "int8")


def test_compiled_code_is_expected_if_it_exists_or_can_be_built(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = random_model().config
    monkeypatch.setattr(cpu_step, "compiler", lambda: None)
    assert not is_code_expected(config, "int8", build=True)
    monkeypatch.setattr(cpu_step, "compiler", lambda: "g++")
    assert is_code_expected(config, "int8", build=True)
    assert not is_code_expected(config, "int8", build=False)
    paths = list(library_paths(config, "int8").values())
    paths[0].parent.mkdir(parents=True)
    note = failure_note(paths[0])
    note.write_text("no")
    assert not is_code_expected(config, "int8", build=True)
    note.unlink()
    for path in paths:
        path.touch()
    assert is_code_expected(config, "int8", build=False)
