"""Packed int8 weights, compared with int8 weights in rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt import checkpoint, device, loaded
from gpt.fast import cpu_build
from gpt.fast.build import failure_note
from gpt.fast.cpu_build import is_code_expected
from gpt.fast.cpu_step import library_paths
from gpt.loaded import RunOptions, load_model
from gpt.tokenizer import CharTokenizer
from gpt.weights import packed_int8, read
from gpt.weights.products import packed_is_faster, product
from gpt.weights.quantize import PACKED, Matrix
from tests.conftest import CHARACTERS, random_model
from tests.gpt.test_quantize import matrix_of, numbers

SIZES = st.integers(1, 50) | st.integers(1500, 1700)
"""Rows of matrices that need the fewest blocks, and of some that need more."""


def random_rows(n_out: int, n_in: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-127, 128, (n_out, n_in), dtype=torch.int8, generator=generator)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(1, 9), st.integers(0, 2**31), st.data())
def test_a_table_holds_the_rows_of_its_matrix(
    n_out: int, n_in: int, seed: int, data: st.DataObject
) -> None:
    rows, scales = random_rows(n_out, n_in, seed), torch.rand(n_out, 1)
    # The number of rows written at a time makes no difference.
    ends = [*sorted(data.draw(st.sets(st.integers(1, n_out)))), n_out]
    table = torch.zeros(packed_int8.table_shape(n_out, n_in), dtype=torch.uint8)
    scale_table = torch.zeros(packed_int8.scale_shape(n_out, 1))
    for start, end in zip([0, *ends], ends, strict=False):
        packed_int8.pack_rows(table, rows[start:end], start)
        packed_int8.pack_scales(scale_table, scales[start:end], start)
    indices = torch.tensor(data.draw(st.lists(st.integers(0, n_out - 1), min_size=1)))
    found, found_scales = packed_int8.unpack_rows(table, scale_table, indices)
    assert torch.equal(found, rows[indices]) and torch.equal(found_scales, scales[indices])


@settings(max_examples=60, deadline=None)
@given(SIZES, st.sampled_from([1, 7, 40, 384, 400]), st.integers(1, 12), st.integers(0, 2**31))
def test_packed_products_are_those_of_the_rows(n_out: int, n_in: int, n: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(n_out, n_in, generator=generator)
    x = torch.randn(1, n, n_in, generator=generator) * 10
    rows, table = matrix_of(weight, "int8"), matrix_of(weight, PACKED)
    assert torch.equal(numbers(rows), numbers(table))
    found = product(x, table)
    assert found.shape == (1, n, n_out)
    expected = (x.double() @ numbers(rows).T).float()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4 * n_in**0.5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_any_dtype_is_packed_while_it_is_read(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "PIECE", 100)  # several pieces a matrix
    model = random_model(tied=False)
    checkpoint.save(tmp_path / "m", model, CharTokenizer(CHARACTERS), dtype=dtype)
    rows, tables = (
        checkpoint.load(tmp_path / "m", dtype="int8", packed=packed).model
        for packed in (False, True)
    )
    for name, matrix in rows.named_modules():
        if isinstance(matrix, Matrix):
            table = tables.get_submodule(name)
            assert isinstance(table, Matrix) and table.dtype == PACKED
            assert torch.equal(numbers(table), numbers(matrix))
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
    assert packed_is_faster.__wrapped__() is expected


def test_without_a_compiler_packed_weights_decide_whether_int8_is_fast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    monkeypatch.setattr(Matrix, "product", lambda self, x: seen.append(self.dtype))
    monkeypatch.setattr(device, "packed_is_faster", lambda: True)
    for found, dtype in (None, PACKED), ("g++", "int8"):
        seen.clear()
        monkeypatch.setattr(device, "compiler", lambda found=found: found)
        device.fast_storage("int8")
        assert set(seen) == {dtype, "float32"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, torch.uint8),
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
    monkeypatch.setattr(cpu_build, "compiler", lambda: None)
    assert not is_code_expected(config, "int8", build=True)
    monkeypatch.setattr(cpu_build, "compiler", lambda: "g++")
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
