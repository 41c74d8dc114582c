"""Matrices in 8 or 4 bits a weight: groups of columns with a scale each, a few columns in 16 bits.

Rounding costs most where activations are large, and a few inputs of a layer have most of its
activation (Dettmers et al. 2022, arXiv:2208.07339). The columns that meet them are the loud ones:
they are rounded as if they were zeros, and what that leaves is added in float16. In all others, a
scale for each group in a row keeps one large weight from making the whole row coarse.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gpt.errors import UserError
from gpt.weights import words

N_LOUD = 16
"""Columns of a matrix that stay float16; at most an eighth of them."""
_GROUP = {8: 192, 4: 128}
"""Bits → most columns in a group."""
_SMALL_GROUP = {8: 192, 4: 64}
"""The same for groups that do not fill vectors of words (gpt/weights/words.py)."""
_LANES = 16
"""Numbers that a processor adds at once."""
_CHAIN = 4
"""Most products that are added before they are multiplied by their scale."""
_SMALLEST = torch.finfo(torch.float32).tiny
_LARGEST = torch.finfo(torch.float16).max
_SHRINK = (1.0, 0.88)
"""Shares of a group's range over which 4 bits are spread, of which the best is taken."""


def group_size(n_in: int, bits: int) -> int:
    """Columns in a group of a matrix with n_in columns.

    They divide it evenly, and fill whole vectors of words if they can. With 4 bits a group has two
    halves. Raises UserError if n_in is odd.
    """
    even = 8 // bits
    sizes = [n for n in range(min(_GROUP[bits], n_in), 0, -1) if n_in % n == n % even == 0]
    if not sizes:
        raise UserError(f"int4 needs matrices of an even width, not {n_in}; use --dtype int8")
    small = (n for n in sizes if n <= _SMALL_GROUP[bits])
    return next((n for n in sizes if words.fit(n, bits)), next(small))


def n_loud(n_in: int) -> int:
    """Loud columns of a matrix with n_in columns."""
    return max(1, min(N_LOUD, n_in // 8))


def take_loud(rows: Tensor, columns: Tensor) -> Tensor:
    """Rows (n, in) float32 → their loud columns (n, loud); the rows get zeros there."""
    loud = rows[:, columns]
    rows.index_fill_(1, columns, 0.0)
    return loud


def as_float16(numbers: Tensor) -> Tensor:
    """Numbers as float16; those that are too large become its largest."""
    return numbers.clamp(-_LARGEST, _LARGEST).half()


def to_int8(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (n, in) float32 → int8 (n, in) and scales (n, groups) float32. Changes the rows.

    Each group is divided by its own scale, so that its largest number becomes 127.
    """
    groups = rows.view(len(rows), -1, group_size(rows.size(1), 8))  # (n, groups, size)
    low, high = groups.aminmax(dim=-1)
    scale = torch.maximum(high, -low).div_(127)
    # A group of zeros has the scale 0, by which it must not be divided. In place, because new
    # memory would take longer than the arithmetic.
    groups.div_(scale.clamp_min(_SMALLEST)[..., None]).round_()
    return rows.to(torch.int8), scale


def as_float(numbers: Tensor, block: Tensor | None = None) -> Tensor:
    """Numbers (n, in) as float32, in the memory of a block with at least n rows if there is one."""
    return numbers.float() if block is None else block[: len(numbers)].copy_(numbers)


def from_int8(steps: Tensor, scale: Tensor, block: Tensor | None = None) -> Tensor:
    """int8 (n, in) and scales (n, groups) → the float32 numbers (n, in) that they stand for.

    block: as for as_float.
    """
    numbers = as_float(steps, block)
    numbers.view(*scale.shape, -1).mul_(scale[..., None])
    return numbers


def to_int4(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows (n, in) float32 → uint8 (n, in / 2), scales and offsets (n, groups) float32.

    A weight is scale · q + offset with q in 0 … 15. Both are the least-squares fit to the group,
    for the better of two ranges. A byte has the q of a column of the first half of its group in its
    low bits, and in its high ones that of the second half.
    """
    groups = rows.view(len(rows), -1, group_size(rows.size(1), 4))  # (n, groups, size)
    low, high = groups.aminmax(dim=-1, keepdim=True)
    best: list[Tensor] = []
    for share in _SHRINK:
        scale = (high - low) * share / 15
        fit = _fit(groups, scale, (high + low) / 2 - 7.5 * scale)
        best = _better(best, fit) if best else fit
    steps, scale, offset, _ = best
    first, second = steps.to(torch.uint8).chunk(2, dim=-1)
    return (first | second << 4).flatten(1), scale[..., 0], offset[..., 0]


def _fit(groups: Tensor, scale: Tensor, offset: Tensor) -> list[Tensor]:
    """Groups (…, size), scale and offset (…, 1) → q (…, size), both fitted to it, and the error."""
    steps = ((groups - offset) / scale.clamp_min(_SMALLEST)).round().clamp(0, 15)
    mean, mean_step = groups.mean(-1, keepdim=True), steps.mean(-1, keepdim=True)
    centred = steps - mean_step
    variance = centred.square().sum(-1, keepdim=True)
    scale = (centred * (groups - mean)).sum(-1, keepdim=True) / variance.clamp_min(_SMALLEST)
    offset = mean - scale * mean_step
    error = torch.addcmul(offset, steps, scale).sub_(groups).square_().sum(-1, keepdim=True)
    return [steps, scale, offset, error]


def _better(a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
    """For each group, the fit with the smaller error."""
    return [torch.where(b[-1] < a[-1], y, x) for x, y in zip(a, b, strict=True)]


def from_int4(packed: Tensor, scale: Tensor, offset: Tensor, block: Tensor | None = None) -> Tensor:
    """uint8 (n, in / 2), scales and offsets (n, groups) → the float32 numbers (n, in).

    block: as for as_float.
    """
    halves = packed.view(*scale.shape, -1)  # (n, groups, size / 2)
    numbers = as_float(torch.stack((halves & 15, halves >> 4), 2).view(len(packed), -1), block)
    numbers.view(*scale.shape, -1).mul_(scale[..., None]).add_(offset[..., None])
    return numbers


def sums_of_int8(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """x (in), int8 weights (n, in), scales (n, groups) → products (n), as loops for a compiler."""
    n_groups = scale.size(1)
    lanes, chain = _loop(weight.size(1) // n_groups)
    lanes_of_x = x.view(n_groups, -1, chain, lanes)
    weight = weight.view(len(weight), n_groups, -1, chain, lanes)
    total = weight[..., 0, :].float() * lanes_of_x[..., 0, :]
    for i in range(1, chain):
        total = total + weight[..., i, :].float() * lanes_of_x[..., i, :]
    return (total * scale[..., None, None]).sum((1, 2, 3))


def sums_of_int4(x: Tensor, packed: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """As sums_of_int8 for uint8 weights (n, in / 2), scales and offsets (n, groups)."""
    n_groups = scale.size(1)
    lanes, chain = _loop(packed.size(1) // n_groups)
    low_x, high_x = x.view(n_groups, 2, chain, lanes).unbind(1)  # (groups, chain, lanes) each
    sums_of_x = (low_x + high_x).sum(1)  # (groups, lanes)
    # A byte is 16 · high + low, so no bits need to be shifted, which takes a processor long.
    high_x = high_x / 16
    low_x = low_x - high_x
    packed = packed.view(len(packed), n_groups, chain, lanes)
    parts = [
        packed[:, :, i].float() * high_x[:, i] + (packed[:, :, i] & 15).float() * low_x[:, i]
        for i in range(chain)
    ]
    total = sum(parts[1:], start=parts[0])
    return (sums_of_x * offset[..., None] + total * scale[..., None]).sum((1, 2))


def _loop(size: int) -> tuple[int, int]:
    """For a group of that many numbers: how many are added at once, and how many times in a row."""
    if size % _LANES:
        return size, 1
    times = size // _LANES
    return _LANES, next(n for n in range(min(_CHAIN, times), 0, -1) if times % n == 0)
