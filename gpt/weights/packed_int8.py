"""int8 weights in the memory order of a fast PyTorch kernel, for use without compiled code.

A matrix times a vector is a weighted sum of the matrix's columns. `embedding_bag` computes a
weighted sum of a table's rows, with code that FBGEMM (Khudia et al. 2021, arXiv:2101.05615)
generates for the processor at run time. It converts bytes to float32 on the way, so nothing is
rounded, and it needs only x86 with AVX2. So the columns are stored as rows of a table, which is
cut into blocks that cores can share.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

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


def scale_shape(n_out: int, n_groups: int) -> tuple[int, int, int]:
    """Shape of the scales for a matrix (n_out, in): blocks, groups, columns of the table."""
    n_blocks, _, n_bytes = table_shape(n_out, 1)
    return n_blocks, n_groups, n_bytes - len(_SCALE_AND_OFFSET)


def pack_rows(table: Tensor, rows: Tensor, first: int) -> None:
    """Write int8 rows (n, in) of a matrix into its table; first: index of the first of them."""
    width = table.size(-1) - len(_SCALE_AND_OFFSET)
    for block, columns, part in _by_block(rows, first, width):
        torch.bitwise_xor(part.view(torch.uint8).t(), _SIGN, out=table[block, :, columns])
        table[block, :, width:] = _SCALE_AND_OFFSET


def pack_scales(table: Tensor, scales: Tensor, first: int) -> None:
    """Write the scales (n, groups) of rows into their table (blocks, groups, width)."""
    for block, columns, part in _by_block(scales, first, table.size(-1)):
        table[block, :, columns] = part.t()


def _by_block(rows: Tensor, first: int, width: int) -> Iterator[tuple[int, slice, Tensor]]:
    """Rows that are stored from row `first` on → each block, its columns, and the rows there."""
    while len(rows):
        block, column = divmod(first, width)
        part = rows[: width - column]
        yield block, slice(column, column + len(part)), part
        first, rows = first + len(part), rows[len(part) :]


def unpack_rows(table: Tensor, scales: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (n) of rows → these rows, int8 (n, in), and their scales (n, groups)."""
    block, column = indices // scales.size(-1), indices % scales.size(-1)
    rows = table[block, :, column].bitwise_xor_(_SIGN).view(torch.int8)
    return rows, scales[block, :, column]


def product(x: Tensor, table: Tensor, scales: Tensor) -> Tensor:
    """x (…, in) float32, a table and its scales → products with the rows, (…, n), n ≥ out."""
    n_blocks, n_in, n_bytes = table.shape
    n, n_groups = x.numel() // n_in, scales.size(1)
    # Each group of columns has a sum of its own, which is then multiplied by its scale.
    sums: Tensor = torch.ops.quantized.embedding_bag_byte_rowwise_offsets(
        table.view(-1, n_bytes),
        *_row_order(n_blocks, n_in, n_groups, n),
        per_sample_weights=x.reshape(1, -1).expand(n_blocks, -1).flatten().contiguous(),
    )  # (n_blocks · n · groups, width)
    sums = sums.view(n_blocks, n, n_groups, -1).mul_(scales[:, None]).sum(2)
    return sums.transpose(0, 1).reshape(*x.shape[:-1], -1)


@lru_cache(32)
def _row_order(n_blocks: int, n_in: int, n_groups: int, n: int) -> tuple[Tensor, Tensor]:
    """Indices of the table rows to add, and where each sum starts: per block, vector and group."""
    rows = torch.arange(n_blocks * n_in, dtype=torch.int32).view(n_blocks, 1, n_in)
    starts = torch.arange(0, n_blocks * n * n_in, n_in // n_groups, dtype=torch.int32)
    return rows.expand(-1, n, -1).flatten(), starts
