"""Networks with weights in fewer bits: only storage shrinks, products stay exact.

Decoding one sequence reads every weight once per token, so on a CPU half the bytes are twice the
speed. Matrices are stored as 16-bit floats, or as 8-bit integers with one scale per row
(symmetric, as in Dettmers et al. 2022, arXiv:2208.07339, but with 16 bits per activation). Norms,
biases and learned positions stay float32. So do the activations between matrices, except queries,
keys and values of bfloat16 weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt import models
from gpt.config import ModelConfig
from gpt.model import GPT
from gpt.weights import packed_int8
from gpt.weights.packed_int8 import PACKED_INT8
from gpt.weights.products import ROWS_AT_ONCE, by_parts, product

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in models.DTYPES}
CACHE_DTYPES = {dtype: dtype for dtype in DTYPES.values()} | {
    torch.int8: torch.float16,
    PACKED_INT8: torch.float32,
}
"""Dtype of weights → dtype of the KV cache. Compiled code reads 16 bits in half the time of 32.
Packed weights run without it, and PyTorch would convert all keys and values to float32 first."""
_SMALLEST = torch.finfo(torch.float32).tiny


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (out, in) of any float dtype → int8 (out, in) and float32 scales (out).

    Each row is divided by its own scale, so that its largest number becomes 127.
    """
    weight = weight.float()
    scale = weight.abs().amax(1) / 127
    # A row of zeros has the scale 0, by which it must not be divided.
    steps = weight / scale.clamp_min(_SMALLEST)[:, None]
    return steps.round().to(torch.int8), scale


def dequantize(weight: Tensor, scale: Tensor) -> Tensor:
    """int8 (out, in) and scales (out) → the float32 numbers that they stand for."""
    return weight.float() * scale[:, None]


class Linear(nn.Module):
    """A linear layer whose weight is stored in few bits."""

    scale: Tensor | None

    def __init__(self, n_in: int, n_out: int, dtype: torch.dtype, *, bias: bool) -> None:
        super().__init__()
        self.out_dtype = torch.float32
        self.weight, self.scale = _empty_matrix(n_out, n_in, dtype)
        self.bias = _parameter(n_out) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out) of out_dtype."""
        return product(x, self.weight, self.scale, self.bias).to(self.out_dtype)


class Embedding(nn.Module):
    """A table of vectors that is stored in few bits."""

    scale: Tensor | None

    def __init__(self, n_rows: int, width: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight, self.scale = _empty_matrix(n_rows, width, dtype)

    def forward(self, ids: Tensor) -> Tensor:
        """(…) → (…, width) float32."""
        is_packed = self.weight.dtype == PACKED_INT8
        rows = packed_int8.unpack_rows(self.weight, ids) if is_packed else self.weight[ids]
        rows = rows.float()
        return rows if self.scale is None else rows * self.scale[ids][..., None]


def _empty_matrix(
    n_out: int, n_in: int, dtype: torch.dtype
) -> tuple[nn.Parameter, nn.Parameter | None]:
    """Uninitialized memory for a matrix (out, in), and for its scales (out) if dtype has any."""
    is_packed = dtype == PACKED_INT8
    shape = packed_int8.table_shape(n_out, n_in) if is_packed else (n_out, n_in)
    has_scale = is_packed or dtype == torch.int8
    return _parameter(*shape, dtype=dtype), _parameter(n_out) if has_scale else None


def _parameter(*shape: int, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape, dtype=dtype), requires_grad=False)


def replace_linears(module: nn.Module, dtype: torch.dtype) -> None:
    """Replace all linear layers in a module by uninitialized ones that store dtype."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            has_bias = child.bias is not None
            linear = Linear(child.in_features, child.out_features, dtype, bias=has_bias)
            if name == "qkv" and dtype == torch.bfloat16:
                linear.out_dtype = dtype  # attention is several times faster in bfloat16
            setattr(module, name, linear)
        else:
            replace_linears(child, dtype)


class SmallGPT(GPT):
    """The network with its matrices stored in few bits; it cannot be trained."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype) -> None:
        super().__init__(config)
        replace_linears(self, dtype)
        self.cache_dtype = CACHE_DTYPES[dtype]
        width = config.embd_dim or config.n_embd
        self.wte = Embedding(config.vocab_size, width, dtype)  # type: ignore[assignment]
        self._common: tuple[Tensor, Tensor] | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, E) → (…, V) float32."""
        matrix: Linear | Embedding = self.wte if self.config.tied else self.lm_head  # type: ignore[assignment]
        if matrix.scale is not None or torch.compiler.is_compiling():
            return product(hidden, matrix.weight, matrix.scale)
        # GPT-2's logits are around -100, where 16-bit floats are a sixteenth apart. The part that
        # they share comes from one direction of the hidden state: it is multiplied in float32.
        if self._common is None:
            self._common = _common_direction(matrix.weight)
        direction, direction_logits = self._common  # (E), (V)
        along = hidden @ direction  # (…)
        rest = product(hidden - along[..., None] * direction, matrix.weight, None)
        return rest + along[..., None] * direction_logits


class HalfGPT(GPT):
    """The network on a CUDA device: weights and activations have 16 bits, logits have 32.

    A GPU sums its products in float32 anyway, and GPT-2's logits are around -100, where bfloat16
    has steps of a half.
    """

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, E) → (…, V) float32."""
        weight: Tensor = self.wte.weight if self.config.tied else self.lm_head.weight
        rows = hidden.reshape(-1, hidden.size(-1))
        logits = torch.mm(rows, weight.t(), out_dtype=torch.float32)
        return logits.view(*hidden.shape[:-1], -1)


def _common_direction(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vector (E) along the mean row of weight (V, E), and its products with all rows (V)."""
    mean = torch.stack([rows.float().sum(0) for rows in torch.split(weight, ROWS_AT_ONCE)]).sum(0)
    direction = F.normalize(mean, dim=0)
    return direction, by_parts(lambda rows: rows.float() @ direction, weight, ROWS_AT_ONCE)
