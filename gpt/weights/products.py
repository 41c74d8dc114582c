"""Products of float32 activations with weights in few bits.

Each kind of weight is multiplied by the way that is fast for it here: a kernel of its own dtype,
packed int8 (packed_int8.py), exact integer sums, or a conversion to float32 a few rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.weights import packed_int8
from gpt.weights.packed_int8 import PACKED_INT8
from gpt.weights.timing import least_seconds

ROWS_AT_ONCE = 4096
"""Rows of a matrix that are processed at once, so that the next step finds them in the cache."""
_N_FLOATS = 1 << 19
"""Numbers of a matrix that are converted to float32 at once, for the same reason."""
_N_POSITIONS = 8
"""Most positions for which packed weights are multiplied without unpacking them."""
_CLEARLY_LESS = 0.8
"""Packed weights must take at most this share of the time of int8 rows, or the next start might
choose differently."""


def product(x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None = None) -> Tensor:
    """x (…, in) float32 and weight (out, in), or its packed table → x weightᵀ + bias, (…, out)."""
    y = _unscaled_product(x, weight)
    if scale is None:
        return y if bias is None else y.add_(bias)
    y = y[..., : len(scale)]  # a packed table is padded
    return y.mul_(scale) if bias is None else torch.addcmul(bias, y, scale, out=y)


def _unscaled_product(x: Tensor, weight: Tensor) -> Tensor:
    """x (…, in) and weight → x weightᵀ (…, out) without the scales, a new tensor."""
    if torch.compiler.is_compiling():  # for one position; see gpt/fast/cpu_compile.py
        # Sums of several rows at once keep a core busy while each waits for its last addition.
        # Only loops of equal length are fused, so the rest of a division by 4 is a fifth part.
        equal = torch.split(weight, max(1, len(weight) // 4))
        parts = [(rows.float() * x.reshape(-1)).sum(-1) for rows in equal]
        return torch.cat(parts).view(*x.shape[:-1], -1)
    if weight.dtype == torch.float32:
        return F.linear(x, weight)
    is_one_position = x.numel() == x.size(-1)
    if weight.dtype == PACKED_INT8:
        return _packed_product(x, weight)
    if weight.dtype == torch.int8:
        if method := fastest_integer_product():
            return _integer_product(x, weight, method if is_one_position else _both_as_rows)
    elif is_one_position or weight.dtype == torch.bfloat16:
        return F.linear(x.to(weight.dtype), weight).float()
    return _float_product(x, weight)


def _packed_product(x: Tensor, table: Tensor) -> Tensor:
    if x.numel() <= _N_POSITIONS * x.size(-1):
        return packed_int8.product(x, table)
    n_blocks = max(1, ROWS_AT_ONCE // table.size(-1))
    return by_parts(
        lambda blocks: _unscaled_product(x, packed_int8.unpack(blocks)), table, n_blocks
    )


def _float_product(x: Tensor, weight: Tensor) -> Tensor:
    """x weightᵀ for a dtype without a fast kernel: a few rows at a time become float32."""
    n_rows = max(1, _N_FLOATS // weight.size(1))
    # The same memory for all parts: new pages would take longer than the product.
    block = torch.empty_like(weight[:n_rows], dtype=torch.float32)

    def part_product(rows: Tensor) -> Tensor:
        return F.linear(x, block[: len(rows)].copy_(rows))

    return by_parts(part_product, weight, n_rows)


def by_parts(function: Callable[[Tensor], Tensor], weight: Tensor, n_rows: int) -> Tensor:
    """Apply function to n_rows rows of weight at a time and join the results, (…, out).

    function: rows (n, in) → (…, n).
    """
    if len(weight) <= n_rows:
        return function(weight)
    return torch.cat([function(rows) for rows in torch.split(weight, n_rows)], dim=-1)


IntegerProduct = Callable[[Tensor, Tensor], Tensor]
"""digits (2N, in) int8, N rows of high digits, then N of low ones; weight (n, in) int8 → sums
(N, n) float32, of high + low / 254."""


def _integer_product(x: Tensor, weight: Tensor, method: IntegerProduct) -> Tensor:
    """x weightᵀ by exact integer sums: 8-bit weights, activations of two 8-bit digits.

    An activation is step · (high + low / 254) with both digits in -127 … 127 and one step per
    position. Its error is at most a 32,000th of the position's largest activation.
    """
    rows = x.reshape(-1, x.size(-1))  # (N, in)
    # The step carries NaN and infinity on. If it is 0, any digits give 0.
    step = rows.abs().amax(1, keepdim=True).div_(127)  # (N, 1)
    low = rows / step  # (N, in)
    high = low.round()
    low.sub_(high).mul_(254)
    digits = torch.cat((high.to(torch.int8), low.to(torch.int8)))  # (2N, in); low is truncated
    y = by_parts(lambda part: method(digits, part), weight, ROWS_AT_ONCE)  # (N, out)
    return y.mul_(step).view(*x.shape[:-1], -1)


def _one_by_one(digits: Tensor, weight: Tensor) -> Tensor:
    """A product for each digit."""
    high, low = digits.chunk(2)
    columns = _transposed(weight)
    # The second product finds the weights in the cache.
    return torch._int_mm(high, columns).float().add_(torch._int_mm(low, columns), alpha=1 / 254)


def _both_as_rows(digits: Tensor, weight: Tensor) -> Tensor:
    """One product, with the digits as rows before the weights."""
    high, low = torch._int_mm(digits, _transposed(weight)).chunk(2)
    return high.float().add_(low, alpha=1 / 254)


def _both_as_columns(digits: Tensor, weight: Tensor) -> Tensor:
    """One product, with the digits as columns after the weights."""
    high, low = torch._int_mm(weight, _transposed(digits)).t().chunk(2)
    return high.float().add_(low, alpha=1 / 254)


INTEGER_PRODUCTS: tuple[IntegerProduct, ...] = (_one_by_one, _both_as_rows, _both_as_columns)
"""They return the same numbers if the processor's integer sums are exact."""


def _transposed(matrix: Tensor) -> Tensor:
    # oneDNN misreads the strides that t() leaves to a matrix of one column.
    return matrix.t() if matrix.size(1) > 1 else matrix.view(1, -1)


@cache
def fastest_integer_product() -> IntegerProduct | None:
    """The method that is fastest for one position on this processor; None: float32 is.

    Processors with instructions for whole matrices are fastest with the digits as columns, others
    with the digits as rows or one by one. x86 without VNNI first adds two products in 16 bits,
    which overflows: then the result is None too.
    """
    digits = torch.full((2, 768), 127, dtype=torch.int8)
    # More than fits into a core's own cache, like a network's weights. The shape is GPT-2's, for
    # which the methods differ more than for longer rows.
    weights = torch.full((2, 3072, 768), 127, dtype=torch.int8)
    x = digits[:1].float()
    whole = x @ weights[0].float().t()
    expected = whole.add(whole, alpha=1 / 254)
    if not all(torch.equal(method(digits, weights[0]), expected) for method in INTEGER_PRODUCTS):
        return None

    def seconds(call: Callable[[Tensor], Tensor]) -> float:
        return least_seconds(lambda: [call(weight) for weight in weights])

    taken = {method: seconds(partial(method, digits)) for method in INTEGER_PRODUCTS}
    fastest = min(taken, key=taken.__getitem__)
    # float32 must be twice as fast, or the next start might choose, and so round, differently.
    return None if 2 * seconds(partial(_float_product, x)) < taken[fastest] else fastest


@cache
def packed_is_faster() -> bool:
    """Whether this processor multiplies packed int8 clearly faster than rows, for one position."""
    x = torch.ones(1, 768)
    rows = torch.full((3072, 768), 127, dtype=torch.int8)
    scale = torch.ones(len(rows))

    def seconds(weight: Tensor) -> float:
        # More than fits into a core's own cache, like a network's weights.
        weights = [weight, weight.clone()]
        return least_seconds(lambda: [product(x, each, scale) for each in weights])

    return seconds(packed_int8.pack(rows)) < _CLEARLY_LESS * seconds(rows)
