"""Products of bytes are those of the numbers that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gpt.weights import groups, words
from gpt.weights.groups import group_size
from tests.gpt.test_quantize import matrix_of

WIDTHS = (128, 384, 768)
"""Widths whose groups fill whole vectors of words, in 8 and in 4 bits."""


def bytes_of(word: int) -> list[int]:
    return [word >> shift & 255 for shift in (0, 8, 16, 24)]


def signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


WORDS = st.integers(-(2**31), 2**31 - 1)


@given(WORDS, WORDS, st.integers(-(2**20), 2**20))
def test_dot4_adds_the_products_of_four_bytes(a: int, b: int, total: int) -> None:
    found = words.dot4(*(torch.tensor([n], dtype=torch.int32) for n in (total, a, b)))
    pairs = zip(bytes_of(a & 0xFFFFFFFF), bytes_of(b & 0xFFFFFFFF), strict=True)
    assert found.item() == total + sum(x * signed(y) for x, y in pairs)


KINDS: dict[int, tuple[Callable[..., Any], Callable[..., Tensor], Callable[..., Tensor]]] = {
    8: (groups.to_int8, groups.from_int8, words.sums_of_int8),
    4: (groups.to_int4, groups.from_int4, words.sums_of_int4),
}
"""Bits → how numbers are stored, read and multiplied."""


def product(x: Tensor, weight: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """x (in) and weight (n, in) → products by words, and those of the same numbers in float64."""
    to, back, sums = KINDS[bits]
    stored = to(weight.clone())
    read = words.digits(x, stored[1].size(1))
    found = sums(read, stored[0].view(torch.int32), *stored[1:]) * read.step
    return found, back(*stored).double() @ x.double()


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("n_in", WIDTHS)
def test_16_bits_of_every_activation_are_kept(n_in: int, bits: int) -> None:
    assert words.fit(group_size(n_in, bits), bits)
    weight, x = torch.randn(40, n_in), torch.randn(n_in) * 3
    found, expected = product(x, weight, bits)
    # Half a 32,000th of the largest activation, for each weight, if all errors add up.
    bound = x.abs().max() / (2 * 127 * 254) * weight.abs().sum(1).max()
    assert (found - expected).abs().max() < bound


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_digits_and_weights_do_not_overflow(bits: int, sign: int) -> None:
    weight = torch.full((4, 3072), 2.0)
    weight[:, ::2] *= sign
    found, expected = product(torch.full((3072,), -5.0), weight, bits)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("bits", [8, 4])
def test_zeros_give_zeros_and_what_is_not_finite_is_not_hidden(bits: int) -> None:
    weight = torch.randn(4, 128)
    assert product(torch.zeros(128), weight, bits)[0].eq(0).all()
    for bad in (float("nan"), float("inf")):
        x = torch.randn(128)
        x[5] = bad
        assert not product(x, weight, bits)[0].isfinite().any()


def test_only_matrices_whose_groups_fill_vectors_are_read_as_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def kinds() -> list[torch.dtype]:
        matrices = [("int8", 128), ("int4", 128), ("int8", 48), ("int4", 192), ("float16", 128)]
        return [matrix_of(torch.randn(5, n), dtype).streamed.dtype for dtype, n in matrices]

    monkeypatch.setattr(words, "are_fast", lambda: True)
    assert kinds() == [torch.int32, torch.int32, torch.int8, torch.uint8, torch.float16]
    monkeypatch.setattr(words, "are_fast", lambda: False)
    assert kinds() == [torch.int8, torch.uint8, torch.int8, torch.uint8, torch.float16]
