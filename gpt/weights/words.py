"""Products of vectors with small integers, in integer sums that a compiler turns into loops.

A processor with VNNI multiplies four bytes with four bytes and adds the products in each 32-bit
lane of a vector, in one instruction. So weights are read as words of four bytes. An activation is
two digits, each a byte: step · (high + low / 254), which keeps 16 bits of it. That takes half the
instructions of a conversion to floats for 8 bits, and a third for 4.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

LANES = 16
"""Words in a vector."""
_RADIX = 254
"""What a high digit is worth in low ones."""
_SIGNS = -0x7F7F7F80
"""A word whose four bytes are 128."""
_LOW_BITS = 0x0F0F0F0F

_LIBRARY = torch.library.Library("gpt_tui", "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define(  # type: ignore[no-untyped-call]
    "dot4(Tensor total, Tensor unsigned, Tensor signed) -> Tensor"
)


def _dot4(total: Tensor, unsigned: Tensor, signed: Tensor) -> Tensor:
    for shift in (24, 16, 8, 0):  # the byte that is wanted comes to the top of its word
        byte = (signed << shift) >> 24
        total = total + ((unsigned << shift) >> 24 & 255) * byte
    return total


for _key in ("CPU", "Meta"):
    _LIBRARY.impl("dot4", _dot4, _key)  # type: ignore[no-untyped-call]
dot4 = torch.ops.gpt_tui.dot4
"""total int32, plus the products of the four bytes of two words: 0 … 255 times -128 … 127."""


@cache
def are_fast() -> bool:
    """Whether this processor multiplies words at once, and PyTorch's compiler fills vectors so."""
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.cpu._is_vnni_supported()


def fit(size: int, bits: int) -> bool:
    """Whether a group of so many weights fills whole vectors of words."""
    return size * bits % (32 * LANES) == 0


class Digits(NamedTuple):
    """Activations as whole numbers."""

    step: Tensor
    """(…, 1)"""
    words: Tensor
    """(…, 2, groups, in / groups / 4 / lanes, lanes) high and low digits."""
    sums: Tensor
    """(…, 2, groups, lanes) sums of -128 times the digits."""


def digits(x: Tensor, n_groups: int) -> Digits:
    """x (…, in) float32 → its digits, with one step for each position."""
    largest = x.abs().amax(-1, keepdim=True)
    exact = x * (127 / largest)
    high = exact.round()
    low = ((exact - high) * _RADIX).round()
    # What is joined is computed once; without that, a loop over rows would compute it in each row.
    found = torch.cat((_words(high), _words(low)), -1)
    found = found.view(*x.shape[:-1], 2, n_groups, -1, LANES)
    sums = -_sum(torch.full_like(found, _SIGNS), found)
    # The step carries NaN and infinity on; if it is 0, any digits give 0.
    return Digits(largest / 127, found, torch.cat(torch.split(sums, 1, -3), -3))


def sums_of_int8(x: Digits, words: Tensor, scale: Tensor) -> Tensor:
    """x of one position, int8 weights as words (n, in / 4), scales (n, groups) → products (n).

    They are in steps.
    """
    # Weights are made unsigned by adding 128; the sums begin with what takes that away again.
    unsigned = words.view(len(words), *x.words.shape[1:]) ^ _SIGNS
    high, low = (_sum(unsigned, *each) for each in zip(x.words, x.sums, strict=True))
    return (_number(high, low) * scale[..., None]).sum((1, 2))


def sums_of_int4(x: Digits, words: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """uint8 weights as words (n, in / 8), scales, offsets (n, groups) → products (n), in steps."""
    n_groups, times = x.words.shape[1:3]
    words = words.view(len(words), n_groups, times // 2, LANES)
    halves = words & _LOW_BITS, words >> 4 & _LOW_BITS
    high, low = (
        _sum(halves[1], each[:, times // 2 :], _sum(halves[0], each[:, : times // 2]))
        for each in x.words
    )
    rest = _number(x.sums[0], x.sums[1]) * (-1 / 128)
    return (_number(high, low) * scale[..., None] + rest * offset[..., None]).sum((1, 2))


def _number(high: Tensor, low: Tensor) -> Tensor:
    return high.float() + low.float() * (1 / _RADIX)


def _sum(unsigned: Tensor, signed: Tensor, total: Tensor | None = None) -> Tensor:
    """Words (…, times, lanes) → (…, lanes), the sums of the products of their bytes."""
    if total is None:
        total = torch.zeros_like(unsigned[..., 0, :])
    for i in range(unsigned.size(-2)):
        total = dot4(total, unsigned[..., i, :], signed[..., i, :])
    return total


def _words(digits: Tensor) -> Tensor:
    """Whole numbers (…, n) → words (…, n / 4)."""
    a, b, c, d = digits.to(torch.int32).view(*digits.shape[:-1], -1, 4).unbind(-1)
    return a & 255 | (b & 255) << 8 | (c & 255) << 16 | d << 24
