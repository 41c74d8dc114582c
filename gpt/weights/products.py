"""Products of float32 activations with weights in few bits.

Each kind of weight is multiplied by the way that is fast for it here: a kernel of its own dtype,
packed int8 (packed_int8.py), exact integer sums, or a conversion to floats a few rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.weights import groups, packed_int8, words
from gpt.weights.onednn import linear
from gpt.weights.timing import CLEARLY_LESS, least_seconds

if TYPE_CHECKING:
    from gpt.weights.quantize import Matrix

ROWS_AT_ONCE = 4096
"""Rows of a matrix that are processed at once, so that the next step finds them in the cache."""
_N_FLOATS = 1 << 19
"""Numbers of a matrix that are converted to floats at once, for the same reason."""
_FEW = 32
"""Most positions for which packed weights are multiplied without unpacking them."""
_MANY = 32
"""Fewest positions for which products of small integers are faster in bfloat16, if any are."""


def product(
    x: Tensor, matrix: Matrix, bias: Tensor | None = None, *, exact: bool = False
) -> Tensor:
    """x (…, in) float32 → its products with the rows of a matrix, (…, out) float32, a new tensor.

    bias: (out) is added. exact: activations keep at least 16 bits next to small integers, and all
    bits next to floats (many positions next to bfloat16 are rounded all the same). Otherwise they
    may be rounded as the weights are, and many positions are multiplied by small integers in
    bfloat16, which rounds less than 8 bits do, if that is faster.
    """
    weight, n = matrix.weight, x.numel() // x.size(-1)
    is_single, rounds = n == 1, not exact or n >= _MANY
    if torch.compiler.is_compiling():  # for a few positions; see gpt/fast/cpu_compile.py
        y = _sums(x.reshape(-1, x.size(-1)), matrix).view(*x.shape[:-1], -1)
    elif weight.dtype == torch.float32:
        # oneDNN's sums are rounded less than MKL's for one position, and more for several.
        return (linear if is_single else F.linear)(x, weight, bias)
    elif matrix.loud is not None and matrix.columns is not None:
        y = _integer_product(x, matrix, exact=exact)
        loud = x[..., matrix.columns[:, 0]]  # (…, loud)
        y.view(-1, y.size(-1)).addmm_(loud.view(-1, loud.size(-1)), matrix.loud.float())
    elif rounds and (is_single or weight.dtype == torch.bfloat16):
        y = F.linear(x.to(weight.dtype), weight).float()
    else:
        y = _float_product(x, matrix, torch.float32)
    return y if bias is None else y.add_(bias)


def _integer_product(x: Tensor, matrix: Matrix, *, exact: bool) -> Tensor:
    """Products with the integers of a matrix, without its loud columns."""
    n = x.numel() // x.size(-1)
    if matrix.weight.dim() > 2 and n <= _FEW:
        assert matrix.scale is not None  # noqa: S101 (integers have scales)
        return packed_int8.product(x, matrix.weight, matrix.scale)[..., : matrix.shape[0]]
    if n >= _MANY and not exact and bfloat16_is_faster():
        return _float_product(x, matrix, torch.bfloat16)
    if matrix.weight.dtype == torch.int8 and (method := fastest_integer_product()):
        return _sums_of_digits(x, matrix, method)
    return _float_product(x, matrix, torch.float32)


def _sums(x: Tensor, matrix: Matrix) -> Tensor:
    """Products (N, out) with x (N, in) as sums over columns, for a compiler."""
    tensors = [each for each in (matrix.weight, matrix.scale, matrix.offset) if each is not None]
    # Several sums at once keep a core busy while each waits for its last addition: of several
    # positions, or of several rows. Only loops of equal length are fused, so the rest of a division
    # by 4 is a fifth part.
    size = len(matrix.weight) if len(x) > 1 else max(1, len(matrix.weight) // 4)
    parts = list(zip(*(torch.split(each, size) for each in tensors), strict=True))
    are_words = matrix.weight.dtype == torch.int32
    of_kind = _SUMS[len(tensors), are_words]
    if are_words:
        digits = words.digits(x, tensors[1].size(1))
        read = [words.Digits(*each) for each in zip(*digits, strict=True)]
    else:
        read = list(x)
    sums = torch.stack([torch.cat([of_kind(each, *part) for part in parts]) for each in read])
    if are_words:
        sums = sums * digits.step
    if matrix.loud is None or matrix.columns is None:
        return sums
    loud = x[:, matrix.columns[:, 0], None]  # (N, loud, 1)
    return sums + (matrix.loud.float() * loud).sum(1)


def _sums_of_floats(x: Tensor, weight: Tensor) -> Tensor:
    return (weight.float() * x).sum(-1)


_SUMS: dict[tuple[int, bool], Callable[..., Tensor]] = {
    (1, False): _sums_of_floats,
    (2, False): groups.sums_of_int8,
    (2, True): words.sums_of_int8,
    (3, False): groups.sums_of_int4,
    (3, True): words.sums_of_int4,
}
"""Number of tensors that hold a matrix, without its loud columns, and whether its weights are words
→ how they are multiplied."""


def dequantized(matrix: Matrix, rows: slice | Tensor) -> Tensor:
    """Some rows of a matrix as float32, (n, in), a new tensor. rows: a slice or indices (n)."""
    found = _without_loud(matrix, rows)
    if matrix.loud is not None and matrix.columns is not None:
        found.index_add_(1, matrix.columns[:, 0], matrix.loud[:, rows].t().float())
    return found


def _without_loud(matrix: Matrix, rows: slice | Tensor, block: Tensor | None = None) -> Tensor:
    """As `dequantized`, without what the loud columns add. block: memory for at least as many."""
    weight, scale = matrix.weight, matrix.scale
    if scale is None:
        return groups.as_float(weight[rows], block)
    if weight.dim() > 2:
        if isinstance(rows, slice):
            rows = torch.arange(*rows.indices(matrix.shape[0]))
        return groups.from_int8(*packed_int8.unpack_rows(weight, scale, rows), block)
    if matrix.offset is not None:
        return groups.from_int4(weight[rows], scale[rows], matrix.offset[rows], block)
    return groups.from_int8(weight[rows], scale[rows], block)


def _float_product(x: Tensor, matrix: Matrix, dtype: torch.dtype) -> Tensor:
    """Products of x with the numbers of a matrix, without its loud columns, a few rows at a time.

    dtype: what they are multiplied in.
    """
    n_out, n_in = matrix.shape
    x, n_rows = x.to(dtype), max(1, _N_FLOATS // n_in)
    # The same memory for all parts: new pages would take longer than the product.
    block = torch.empty(min(n_rows, n_out), n_in)
    rounded = block if dtype == torch.float32 else torch.empty_like(block, dtype=dtype)
    parts = []
    for first in range(0, n_out, n_rows):
        rows = _without_loud(matrix, slice(first, first + n_rows), block)
        if rounded is not block:
            rows = rounded[: len(rows)].copy_(rows)
        parts.append((linear if rounded is block else F.linear)(x, rows))
    return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)).float()


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


def _sums_of_digits(x: Tensor, matrix: Matrix, method: IntegerProduct) -> Tensor:
    """Products with an int8 matrix without its loud columns, by exact integer sums.

    An activation is step · (high + low / 254) with both digits in -127 … 127 and one step per
    position. Its error is at most a 32,000th of the position's largest activation.
    """
    assert matrix.scale is not None  # noqa: S101 (int8 has scales)
    rows = x.reshape(-1, x.size(-1))  # (N, in)
    # The step carries NaN and infinity on. If it is 0, any digits give 0.
    step = rows.abs().amax(1, keepdim=True).div_(127)  # (N, 1)
    low = rows / step  # (N, in)
    high = low.round()
    low.sub_(high).mul_(254)
    digits = torch.cat((high.to(torch.int8), low.to(torch.int8)))  # (2N, in); low is truncated
    y = torch.zeros(len(rows), len(matrix.weight))
    size = digits.size(1) // matrix.scale.size(1)
    for group, part in enumerate(torch.split(digits, size, dim=1)):
        columns = slice(group * size, (group + 1) * size)
        of_group = partial(_group_sums, part.contiguous(), method, columns)
        y.addcmul_(by_parts(of_group, matrix.weight, ROWS_AT_ONCE), matrix.scale[:, group])
    return y.mul_(step).view(*x.shape[:-1], -1)


def _group_sums(digits: Tensor, method: IntegerProduct, columns: slice, weight: Tensor) -> Tensor:
    """digits (2N, size) and rows (n, in) of a matrix → the sums over some columns, (N, n)."""
    return method(digits, weight[:, columns])


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
    return matrix.t() if matrix.size(1) > 1 else matrix.reshape(1, -1)


@cache
def fastest_integer_product() -> IntegerProduct | None:
    """The method that is fastest for one position on this processor; None: float32 is.

    Processors with instructions for whole matrices are fastest with the digits as columns, others
    with the digits as rows or one by one. x86 without VNNI first adds two products in 16 bits,
    which overflows: then the result is None too.
    """
    digits = torch.full((2, 192), 127, dtype=torch.int8)
    # More than fits into a core's own cache, like a network's weights. The shape is that of a group
    # of GPT-2's.
    weights = torch.full((2, 3072, 768), 127, dtype=torch.int8)[..., 192:384]
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
    return (
        None
        if 2 * seconds(lambda weight: F.linear(x, weight.float())) < taken[fastest]
        else fastest
    )


@cache
def bfloat16_is_faster() -> bool:
    """Whether this processor multiplies many positions clearly faster in bfloat16."""

    def seconds(dtype: torch.dtype) -> float:
        x, weight = torch.ones(64, 768, dtype=dtype), torch.ones(768, 768, dtype=dtype)
        return least_seconds(lambda: F.linear(x, weight))

    return seconds(torch.bfloat16) < CLEARLY_LESS * seconds(torch.float32)


@cache
def packed_is_faster() -> bool:
    """Whether this processor multiplies packed int8 clearly faster than rows, for one position."""
    from gpt.weights.quantize import PACKED, Matrix

    x = torch.ones(1, 768)

    def seconds(dtype: str) -> float:
        # More than fits into a core's own cache, like a network's weights.
        matrices = [Matrix(3072, 768, dtype) for _ in range(2)]
        for matrix in matrices:
            for tensor in matrix.parameters():
                tensor.zero_()
        return least_seconds(lambda: [each.product(x) for each in matrices])

    return seconds(PACKED) < CLEARLY_LESS * seconds("int8")
