"""Networks with weights in fewer bits: only storage shrinks, products stay exact.

Decoding one sequence reads every weight once per token, so on a CPU half the bytes are twice the
speed. Matrices are stored as 16-bit floats, or in 8 or 4 bits as gpt/weights/groups.py describes.
Norms, biases and learned positions stay float32. So do the activations between matrices, except
queries, keys and values of bfloat16 weights.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt import models
from gpt.config import ModelConfig
from gpt.model import GPT
from gpt.weights import groups, packed_int8, words
from gpt.weights.products import ROWS_AT_ONCE, by_parts, dequantized, product

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in models.DTYPES}
"""The dtypes of files: name → dtype."""
PACKED = "packed int8"
"""Name of int8 weights that are stored as gpt/weights/packed_int8.py describes."""
CACHE_DTYPES = {name: DTYPES[name] for name in ("float32", "float16", "bfloat16")} | {
    "int8": torch.float16,
    "int4": torch.float16,
    PACKED: torch.float32,
}
"""Dtype of weights → dtype of the KV cache. Compiled code reads 16 bits in half the time of 32.
Packed weights run without it, and PyTorch would convert all keys and values to float32 first."""
_SMALLEST = torch.finfo(torch.float32).tiny


def quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (out, in) of any float dtype → int8 (out, in) and float32 scales (out), as in files.

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


class Matrix(nn.Module):
    """A matrix (out, in) that is stored in few bits."""

    weight: Tensor
    """The numbers in 16 bits, or small integers."""
    scale: Tensor | None
    """Factors of the groups of integers."""
    offset: Tensor | None
    """What is added to the integers of each group, with 4 bits."""
    loud: Tensor | None
    """(loud, out) columns that stay float16."""
    columns: Tensor | None
    """(loud, 1) indices of these columns. Of two dimensions like all that compiled code gets."""

    def __init__(self, n_out: int, n_in: int, dtype: str) -> None:
        """Uninitialized. dtype: a name of CACHE_DTYPES."""
        super().__init__()
        self.dtype, self.shape = dtype, (n_out, n_in)
        layout = _layout(n_out, n_in, dtype)
        for name in ("weight", "scale", "offset", "loud", "columns"):
            kind, shape = layout.get(name, (None, ()))
            self.register_parameter(name, _parameter(*shape, dtype=kind) if kind else None)

    @property
    def streamed(self) -> Tensor:
        """The weight as compiled code reads it: bytes as words if those are multiplied at once."""
        if self.scale is None or self.weight.dim() > 2 or not words.are_fast():
            return self.weight
        bits = 8 * self.weight.size(1) // self.shape[1]
        size = self.shape[1] // self.scale.size(1)
        return self.weight.view(torch.int32) if words.fit(size, bits) else self.weight

    def product(self, x: Tensor) -> Tensor:
        """x (…, in) float32 → its products with all rows, (…, out) float32."""
        return product(x, self)

    def rows(self, indices: Tensor) -> Tensor:
        """Rows with these indices (…) as float32, (…, in)."""
        found = dequantized(self, indices.reshape(-1))
        return found.view(*indices.shape, -1)

    @torch.no_grad()
    def write(self, first: int, rows: Tensor) -> None:
        """Store rows (n, in) of float32, and change them; first: index of the first of them."""
        end = first + len(rows)
        if self.loud is None or self.columns is None or self.scale is None:
            self.weight[first:end] = rows
            return
        loud = groups.take_loud(rows, self.columns[:, 0])
        if self.dtype == "int4":
            assert self.offset is not None  # noqa: S101 (4 bits have offsets)
            numbers = groups.to_int4(rows)
            targets = self.weight, self.scale, self.offset
            for target, values in zip(targets, numbers, strict=True):
                target[first:end] = values
            loud -= groups.from_int4(*numbers)[:, self.columns[:, 0]]
        else:
            self.write_int8(first, *groups.to_int8(rows))
        self.loud[:, first:end] = groups.as_float16(loud).t()

    @torch.no_grad()
    def write_int8(self, first: int, steps: Tensor, scale: Tensor) -> None:
        """Store int8 rows (n, in) with scales (n, groups), or (n, 1) if a row has only one."""
        assert self.scale is not None  # noqa: S101 (int8 has scales)
        if self.dtype == PACKED:
            packed_int8.pack_rows(self.weight, steps, first)
            packed_int8.pack_scales(self.scale, scale, first)
        else:
            self.weight[first : first + len(steps)] = steps
            self.scale[first : first + len(steps)] = scale


def _layout(n_out: int, n_in: int, dtype: str) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """The tensors of a matrix: name → dtype and shape."""
    if dtype not in ("int8", "int4", PACKED):
        return {"weight": (DTYPES[dtype], (n_out, n_in))}
    bits = 4 if dtype == "int4" else 8
    n_groups, n_loud = n_in // groups.group_size(n_in, bits), groups.n_loud(n_in)
    rest: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "scale": (torch.float32, (n_out, n_groups)),
        "loud": (torch.float16, (n_loud, n_out)),
        "columns": (torch.int64, (n_loud, 1)),
    }
    if dtype == "int8":
        return {"weight": (torch.int8, (n_out, n_in)), **rest}
    if dtype == "int4":
        return {
            "weight": (torch.uint8, (n_out, n_in // 2)),
            "offset": (torch.float32, (n_out, n_groups)),
            **rest,
        }
    table, scales = packed_int8.table_shape(n_out, n_in), packed_int8.scale_shape(n_out, n_groups)
    return {"weight": (torch.uint8, table), **rest, "scale": (torch.float32, scales)}


def _parameter(*shape: int, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape, dtype=dtype), requires_grad=False)


class Linear(Matrix):
    """A linear layer whose weight is stored in few bits."""

    def __init__(self, n_in: int, n_out: int, dtype: str, *, bias: bool) -> None:
        super().__init__(n_out, n_in, dtype)
        self.out_dtype = torch.float32
        self.bias = _parameter(n_out) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out) of out_dtype."""
        return product(x, self, self.bias).to(self.out_dtype)


class Embedding(Matrix):
    """A table of vectors that is stored in few bits."""

    def forward(self, ids: Tensor) -> Tensor:
        """(…) → (…, width) float32."""
        return self.rows(ids)


def replace_linears(module: nn.Module, dtype: str) -> None:
    """Replace all linear layers in a module by uninitialized ones that store dtype."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            has_bias = child.bias is not None
            # The output matrix decides alone about every logit, so it has no fewer than 8 bits.
            few = "int8" if dtype == "int4" and name == "lm_head" else dtype
            linear = Linear(child.in_features, child.out_features, few, bias=has_bias)
            if name == "qkv" and dtype == "bfloat16":
                # Attention is several times faster in bfloat16.
                linear.out_dtype = torch.bfloat16
            setattr(module, name, linear)
        else:
            replace_linears(child, dtype)


class SmallGPT(GPT):
    """The network with its matrices stored in few bits; it cannot be trained."""

    def __init__(self, config: ModelConfig, dtype: str) -> None:
        """dtype: a name of CACHE_DTYPES."""
        super().__init__(config)
        replace_linears(self, dtype)
        self.cache_dtype = CACHE_DTYPES[dtype]
        width = config.embd_dim or config.n_embd
        few = "int8" if dtype == "int4" else dtype
        self.wte = Embedding(config.vocab_size, width, few)  # type: ignore[assignment]
        self._common: tuple[Tensor, Tensor] | None = None
        self.rounds_states = True
        """Whether `logits` may round hidden states to the weights' 16 bits, which is fast. Compiled
        code does not, so neither may what explains the tokens that it draws."""

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, E) → (…, V) float32."""
        matrix: Matrix = self.wte if self.config.tied else self.lm_head  # type: ignore[assignment]
        has_16_bits = matrix.weight.dtype in (torch.float16, torch.bfloat16)
        if not has_16_bits or torch.compiler.is_compiling():
            return product(hidden, matrix, exact=True)
        # GPT-2's logits are around -100, where 16-bit floats are a sixteenth apart. The part that
        # they share comes from one direction of the hidden state: it is multiplied in float32.
        if self._common is None:
            self._common = _common_direction(matrix.weight)
        direction, direction_logits = self._common  # (E), (V)
        along = hidden @ direction  # (…)
        rest = hidden - along[..., None] * direction
        rest = product(rest, matrix, exact=not self.rounds_states)
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
