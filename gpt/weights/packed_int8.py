"""int8 weights in the memory order of a fast PyTorch kernel, for use without compiled code.

A matrix times a vector is a weighted sum of the matrix's columns. `embedding_bag` computes a
weighted sum of a table's rows, with code that FBGEMM (Khudia et al. 2021, arXiv:2101.05615)
generates for the processor at run time. It converts bytes to float32 on the way, so nothing is
rounded, and it needs only x86 with AVX2. So the columns are stored as rows of a table, which is
cut into blocks that cores can share.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

PACKED_INT8 = torch.uint8
"""The dtype of a table. No other weight has it, so it tells packed weights from int8 rows."""
_WIDTH = 384
"""Most numbers in a row of a table: as many sums as a core holds in its registers."""
_SHARED = 4
"""The number of blocks is a multiple of this, so that up to 4 cores share them evenly."""
_SCALE_AND_OFFSET = torch.tensor((1.0, -128.0)).view(torch.uint8)
"""The end of each row: the kernel multiplies the row's bytes by 1.0 and adds -128.0."""
_SIGN = 128
"""XOR with this bit turns an int8 into the byte that is stored for it, and back."""


def table_shape(n_out: int, n_in: int) -> tuple[int, int, int]:
    """Shape of the table for a matrix (n_out, n_in): blocks, rows per block, bytes per row."""
    n_blocks = _SHARED * -(-n_out // (_SHARED * _WIDTH))
    width = 8 * -(-n_out // (8 * n_blocks))
    return n_blocks, n_in, width + len(_SCALE_AND_OFFSET)


def pack(rows: Tensor) -> Tensor:
    """int8 matrix (out, in) → its table (n_blocks, in, bytes) uint8."""
    table = torch.zeros(table_shape(*rows.shape), dtype=PACKED_INT8)
    pack_rows(table, rows, 0)
    return table


def pack_rows(table: Tensor, rows: Tensor, first: int) -> None:
    """Write int8 rows (n, in) of a matrix into its table; first: index of the first of them."""
    width = table.size(-1) - len(_SCALE_AND_OFFSET)
    while len(rows):
        block, column = divmod(first, width)
        part = rows[: width - column]
        target = table[block, :, column : column + len(part)]
        torch.bitwise_xor(part.view(torch.uint8).t(), _SIGN, out=target)
        table[block, :, width:] = _SCALE_AND_OFFSET
        first, rows = first + len(part), rows[len(part) :]


def unpack(table: Tensor) -> Tensor:
    """Table (n_blocks, in, bytes) → int8 matrix (n, in), n ≥ out: the rest is padding."""
    stored = table[..., : -len(_SCALE_AND_OFFSET)].transpose(0, 1)  # (in, n_blocks, width)
    columns = torch.empty(stored.shape, dtype=torch.uint8)
    return torch.bitwise_xor(stored, _SIGN, out=columns).view(torch.int8).flatten(1).t()


def unpack_rows(table: Tensor, indices: Tensor) -> Tensor:
    """Table and row indices (…) → these rows of the matrix, int8 (…, in)."""
    width = table.size(-1) - len(_SCALE_AND_OFFSET)
    rows = table[indices // width, :, indices % width]
    return rows.bitwise_xor_(_SIGN).view(torch.int8)


def product(x: Tensor, table: Tensor) -> Tensor:
    """x (…, in) float32 and a table → products of x with all rows of `unpack`, (…, n) float32."""
    n_blocks, n_in, n_bytes = table.shape
    n = x.numel() // n_in
    factors = x.reshape(1, n, _n_streams(n_in), -1).mT.expand(n_blocks, -1, -1, -1).flatten()
    sums: Tensor = torch.ops.quantized.embedding_bag_byte_rowwise_offsets(
        table.view(-1, n_bytes),
        *_row_order(n_blocks, n_in, n),
        per_sample_weights=factors.contiguous(),  # a single number is still an expanded view
    )  # (n_blocks · n, width)
    if n > 1:
        sums = sums.view(n_blocks, n, -1).transpose(0, 1).reshape(n, -1)
    return sums.view(*x.shape[:-1], -1)


@lru_cache(32)
def _row_order(n_blocks: int, n_in: int, n: int) -> tuple[Tensor, Tensor]:
    """Indices of the table rows to add, and where each sum starts: per block, one per vector.

    Rows from both halves of a block alternate: a core that reads two streams waits less.
    """
    rows = torch.arange(n_blocks * n_in, dtype=torch.int32)
    alternating = rows.view(n_blocks, 1, _n_streams(n_in), -1).mT
    starts = torch.arange(0, n_blocks * n * n_in, n_in, dtype=torch.int32)
    return alternating.expand(-1, n, -1, -1).flatten(), starts


def _n_streams(n_in: int) -> int:
    """At how many places a block of n_in rows is read at once."""
    return 1 if n_in % 2 else 2
