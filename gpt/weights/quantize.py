"""Weights in fewer bits: only what is stored shrinks, what is multiplied stays exact.

Decoding one sequence reads every weight once a token, so on a CPU half the bytes are twice the
speed. Matrices are stored as 16-bit floats, or as 8-bit integers with a scale per row (symmetric,
as in Dettmers et al. 2022, arXiv:2208.07339, but with 16 bits of each activation); norms, biases
and learned positions stay float32, as do the activations between the matrices, but for the
queries, keys and values of bfloat16 weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt import models
from gpt.config import ModelConfig
from gpt.model import GPT
from gpt.weights import packed_int8
from gpt.weights.timing import least_seconds

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in models.DTYPES}
PACKED = torch.uint8
"""The dtype of int8 weights that lie as in gpt/weights/packed_int8.py."""
KEPT_IN = {dtype: dtype for dtype in DTYPES.values()} | {
    torch.int8: torch.float16,
    PACKED: torch.float32,
}
"""What keys and values are kept in, by the dtype of weights: half is read in half the time by
compiled code, while PyTorch would turn all of them into float32 first."""
_BLOCK = 4096
"""Rows of a matrix that are worked on at once, so that the next step finds them in the cache."""
_FLOATS = 1 << 19
"""Numbers of a matrix that are float32 at once, for the same reason."""
_FEW = 8
"""Positions for which packed weights are multiplied as they are."""
_PAYS = 0.8
"""At most this share of the time packed weights may take, or another start might leave them."""
_TINY = torch.finfo(torch.float32).tiny


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(out, in) of any float dtype → int8 (out, in) and float32 scales (out).

    Each row is divided by its own scale, so that its largest number becomes 127.
    """
    weight = weight.float()
    scale = weight.abs().amax(1) / 127
    # A row of zeros has any scale.
    steps = weight / scale.clamp_min(_TINY)[:, None]
    return steps.round().to(torch.int8), scale


def dequantize(weight: Tensor, scale: Tensor) -> Tensor:
    """int8 (out, in) and scales (out) → the float32 numbers that they stand for."""
    return weight.float() * scale[:, None]


def product(x: Tensor, weight: Tensor, scale: Tensor | None, bias: Tensor | None = None) -> Tensor:
    """x (…, in) float32 and a stored weight (out, in), or its table → x weightᵀ + bias (…, out)."""
    y = _sums(x, weight)
    if scale is None:
        return y if bias is None else y.add_(bias)
    y = y[..., : len(scale)]  # a table has room for more
    return y.mul_(scale) if bias is None else torch.addcmul(bias, y, scale, out=y)


def _sums(x: Tensor, weight: Tensor) -> Tensor:
    """x (…, in) and weight → (…, out), a new tensor, of what still wants its scale."""
    if torch.compiler.is_compiling():  # for one position; see gpt/fast/cpu_compile.py
        # Sums of several rows at once keep a core busy while each waits for its last addition.
        # Only loops of equal length become one, so what is left of 4 equal parts is another part.
        equal = torch.split(weight, max(1, len(weight) // 4))
        parts = [(rows.float() * x.reshape(-1)).sum(-1) for rows in equal]
        return torch.cat(parts).view(*x.shape[:-1], -1)
    if weight.dtype == torch.float32:
        return F.linear(x, weight)
    alone = x.numel() == x.size(-1)
    if weight.dtype == PACKED:
        return _packed_product(x, weight)
    if weight.dtype == torch.int8:
        if way := fastest_way():
            return _integer_product(x, weight, way if alone else _both_as_rows)
    elif alone or weight.dtype == torch.bfloat16:
        return F.linear(x.to(weight.dtype), weight).float()
    return _float_product(x, weight)


def _packed_product(x: Tensor, table: Tensor) -> Tensor:
    if x.numel() <= _FEW * x.size(-1):
        return packed_int8.product(x, table)
    n_blocks = max(1, _BLOCK // table.size(-1))
    return _by_blocks(lambda blocks: _sums(x, packed_int8.unpack(blocks)), table, n_blocks)


def _float_product(x: Tensor, weight: Tensor) -> Tensor:
    """What has no fast kernel of its own becomes float32, which has one; scales are left out."""
    n_rows = max(1, _FLOATS // weight.size(1))
    # The same memory for all blocks: new pages would take longer than the product.
    block = torch.empty_like(weight[:n_rows], dtype=torch.float32)

    def part(rows: Tensor) -> Tensor:
        return F.linear(x, block[: len(rows)].copy_(rows))

    return _by_blocks(part, weight, n_rows)


def _by_blocks(part: Callable[[Tensor], Tensor], weight: Tensor, n_rows: int) -> Tensor:
    """What part makes of rows of weight, (…, n), so many of them at a time → (…, out)."""
    if len(weight) <= n_rows:
        return part(weight)
    return torch.cat([part(rows) for rows in torch.split(weight, n_rows)], dim=-1)


Way = Callable[[Tensor, Tensor], Tensor]
"""Digits (2N, in), the lower ones below, and weight (n, in), all int8 → sums (N, n) float32."""


def _integer_product(x: Tensor, weight: Tensor, way: Way) -> Tensor:
    """Exact integer sums of 8-bit weights with activations of two 8-bit digits.

    An activation is step · (high + low / 254) with both digits in -127 … 127, step chosen per
    position: its error is at most a 32,000th of that position's largest activation.
    """
    rows = x.reshape(-1, x.size(-1))  # (N, in)
    # NaN and infinity pass on through the step; where it is 0, digits of any kind give 0.
    step = rows.abs().amax(1, keepdim=True).div_(127)  # (N, 1)
    low = rows / step  # (N, in)
    high = low.round()
    low.sub_(high).mul_(254)
    digits = torch.cat((high.to(torch.int8), low.to(torch.int8)))  # (2N, in); low is cut off
    y = _by_blocks(lambda part: way(digits, part), weight, _BLOCK)  # (N, out)
    return y.mul_(step).view(*x.shape[:-1], -1)


def _one_by_one(digits: Tensor, weight: Tensor) -> Tensor:
    high, low = digits.chunk(2)
    columns = _transposed(weight)
    # The second product finds the weights in the cache.
    return torch._int_mm(high, columns).float().add_(torch._int_mm(low, columns), alpha=1 / 254)


def _both_as_rows(digits: Tensor, weight: Tensor) -> Tensor:
    high, low = torch._int_mm(digits, _transposed(weight)).chunk(2)
    return high.float().add_(low, alpha=1 / 254)


def _both_as_columns(digits: Tensor, weight: Tensor) -> Tensor:
    high, low = torch._int_mm(weight, _transposed(digits)).t().chunk(2)
    return high.float().add_(low, alpha=1 / 254)


WAYS: tuple[Way, ...] = (_one_by_one, _both_as_rows, _both_as_columns)
"""Where integers are exact, all give the same numbers."""


def _transposed(matrix: Tensor) -> Tensor:
    # A matrix of one column needs other strides, which oneDNN would misread.
    return matrix.t() if matrix.size(1) > 1 else matrix.view(1, -1)


@cache
def fastest_way() -> Way | None:
    """What takes this processor least time for one position; None: a product in float32.

    Processors with matrix instructions want to multiply the weights, others to multiply with
    them. Those of x86 without VNNI add two products in 16 bits first, which is too few.
    """
    digits = torch.full((2, 768), 127, dtype=torch.int8)
    # More than a core keeps in its own cache, as the weights of a network are; of GPT-2's shape,
    # with which the ways differ more than with longer rows.
    weights = torch.full((2, 3072, 768), 127, dtype=torch.int8)
    x = digits[:1].float()
    whole = x @ weights[0].float().t()
    right = whole.add(whole, alpha=1 / 254)
    if not all(torch.equal(way(digits, weights[0]), right) for way in WAYS):
        return None

    def seconds(call: Callable[[Tensor], Tensor]) -> float:
        return least_seconds(lambda: [call(weight) for weight in weights])

    taken = {way: seconds(partial(way, digits)) for way in WAYS}
    fastest = min(taken, key=taken.__getitem__)
    # Far faster, or the next start might find otherwise, and its numbers be rounded otherwise.
    return None if 2 * seconds(partial(_float_product, x)) < taken[fastest] else fastest


@cache
def packing_pays() -> bool:
    """Whether one position takes this processor clearly less time with packed weights."""
    x = torch.ones(1, 768)
    rows = torch.full((3072, 768), 127, dtype=torch.int8)
    scale = torch.ones(len(rows))

    def seconds(weight: Tensor) -> float:
        # More than a core keeps in its own cache, as the weights of a network are.
        weights = [weight, weight.clone()]
        return least_seconds(lambda: [product(x, each, scale) for each in weights])

    return seconds(packed_int8.pack(rows)) < _PAYS * seconds(rows)


class Linear(nn.Module):
    """A linear layer whose weight is stored in few bits."""

    scale: Tensor | None

    def __init__(self, n_in: int, n_out: int, dtype: torch.dtype, *, bias: bool) -> None:
        super().__init__()
        self.out_dtype = torch.float32
        self.weight, self.scale = _stored(n_out, n_in, dtype)
        self.bias = _parameter(n_out) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out) of out_dtype."""
        return product(x, self.weight, self.scale, self.bias).to(self.out_dtype)


class Embedding(nn.Module):
    """A table of vectors that is stored in few bits."""

    scale: Tensor | None

    def __init__(self, n_rows: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight, self.scale = _stored(n_rows, width, dtype)

    def forward(self, ids: Tensor) -> Tensor:
        """(…) → (…, width) float32."""
        is_packed = self.weight.dtype == PACKED
        rows = (packed_int8.look_up(self.weight, ids) if is_packed else self.weight[ids]).float()
        return rows if self.scale is None else rows * self.scale[ids][..., None]


def _stored(n_out: int, n_in: int, dtype: torch.dtype) -> tuple[nn.Parameter, nn.Parameter | None]:
    """A matrix (out, in) without numbers, and its scales (out) if it has any."""
    shape = packed_int8.shape(n_out, n_in) if dtype == PACKED else (n_out, n_in)
    has_scale = dtype in (torch.int8, PACKED)
    return _parameter(*shape, dtype=dtype), _parameter(n_out) if has_scale else None


def _parameter(*shape: int, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape, dtype=dtype), requires_grad=False)


def shrink(module: nn.Module, dtype: torch.dtype) -> None:
    """Exchange the linear layers in a module for those that store dtype; numbers are lost."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            bias = child.bias is not None
            small = Linear(child.in_features, child.out_features, dtype, bias=bias)
            if name == "qkv" and dtype == torch.bfloat16:
                small.out_dtype = dtype  # for attention, which is several times faster in it
            setattr(module, name, small)
        else:
            shrink(child, dtype)


class SmallGPT(GPT):
    """The same network with its matrices stored in few bits; it cannot be trained."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype) -> None:
        super().__init__(config)
        shrink(self, dtype)
        self.cache_dtype = KEPT_IN[dtype]
        width = config.embd_dim or config.n_embd
        self.wte = Embedding(config.vocab_size, width, dtype)  # type: ignore[assignment]
        self._common: tuple[Tensor, Tensor] | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, E) → (…, V) float32."""
        matrix: Linear | Embedding = self.wte if self.config.tied else self.lm_head  # type: ignore[assignment]
        if matrix.scale is not None or torch.compiler.is_compiling():
            return product(hidden, matrix.weight, matrix.scale)
        # GPT-2's logits lie around -100, where 16 bits are a sixteenth apart. What all of them
        # have in common is a direction of the hidden state: it is multiplied in float32.
        if self._common is None:
            self._common = _common_direction(matrix.weight)
        direction, its_logits = self._common  # (E), (V)
        along = hidden @ direction  # (…)
        rest = product(hidden - along[..., None] * direction, matrix.weight, None)
        return rest + along[..., None] * its_logits


class HalfGPT(GPT):
    """The same network on a CUDA device, where activations have 16 bits as well, but no logits.

    A GPU sums its products in float32 anyway, and GPT-2's logits lie around -100, where bfloat16
    has steps of a half.
    """

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, E) → (…, V) float32."""
        weight: Tensor = self.wte.weight if self.config.tied else self.lm_head.weight
        rows = hidden.reshape(-1, hidden.size(-1))
        logits = torch.mm(rows, weight.t(), out_dtype=torch.float32)
        return logits.view(*hidden.shape[:-1], -1)


def _common_direction(weight: Tensor) -> tuple[Tensor, Tensor]:
    """The unit vector (E) along the mean row of weight (V, E), and its product with each (V)."""
    mean = torch.stack([rows.float().sum(0) for rows in torch.split(weight, _BLOCK)]).sum(0)
    direction = F.normalize(mean, dim=0)
    return direction, _by_blocks(lambda rows: rows.float() @ direction, weight, _BLOCK)
