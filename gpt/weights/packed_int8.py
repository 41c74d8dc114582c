"""int8 weights in an order in which a kernel of PyTorch streams them, for want of compiled code.

A matrix times a vector is a weighted sum of the matrix's columns, and that of rows of a table is
what `embedding_bag` computes, by code that FBGEMM (Khudia et al. 2021, arXiv:2101.05615) makes
for the processor as it runs: bytes become float32 on the way, so nothing is rounded, and any x86
with AVX2 will do. So columns become the rows of a table, cut into blocks that cores can share.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

_WIDTH = 384
"""Numbers of a row at most: as many sums as a core holds in its registers."""
_SHARED = 4
"""Blocks come in multiples of it, for so many cores."""
_TAIL = torch.tensor((1.0, -128.0)).view(torch.uint8)
"""What the kernel multiplies the bytes of a row with, and adds."""
_SIGN = 128
"""The bit by which an int8 differs from the byte that stands for it."""


def shape(n_out: int, n_in: int) -> tuple[int, int, int]:
    """Of the table of a matrix: blocks, rows of a block, bytes of a row."""
    n_blocks = _SHARED * -(-n_out // (_SHARED * _WIDTH))
    width = 8 * -(-n_out // (8 * n_blocks))
    return n_blocks, n_in, width + len(_TAIL)


def pack(rows: Tensor) -> Tensor:
    """int8 rows of a matrix (out, in) → its table."""
    table = torch.zeros(shape(*rows.shape), dtype=torch.uint8)
    put(table, rows, 0)
    return table


def put(table: Tensor, rows: Tensor, begin: int) -> None:
    """Write int8 rows (n, in) of a matrix, from its row `begin` on, into its table."""
    width = table.size(-1) - len(_TAIL)
    while len(rows):
        block, column = divmod(begin, width)
        part = rows[: width - column]
        place = table[block, :, column : column + len(part)]
        torch.bitwise_xor(part.view(torch.uint8).t(), _SIGN, out=place)
        table[block, :, width:] = _TAIL
        begin, rows = begin + len(part), rows[len(part) :]


def unpack(table: Tensor) -> Tensor:
    """(n_blocks, in, bytes) → the rows of the matrix, and what fills up the last block, (n, in)."""
    stored = table[..., : -len(_TAIL)].transpose(0, 1)  # (in, n_blocks, width)
    columns = torch.empty(stored.shape, dtype=torch.uint8)
    return torch.bitwise_xor(stored, _SIGN, out=columns).view(torch.int8).flatten(1).t()


def look_up(table: Tensor, numbers: Tensor) -> Tensor:
    """Rows of the matrix by their numbers (…) → int8 (…, in)."""
    width = table.size(-1) - len(_TAIL)
    found = table[numbers // width, :, numbers % width]
    return found.bitwise_xor_(_SIGN).view(torch.int8)


def product(x: Tensor, table: Tensor) -> Tensor:
    """x (…, in) float32 → its products with the rows that `unpack` gives, (…, n) float32."""
    n_blocks, n_in, n_bytes = table.shape
    n = x.numel() // n_in
    factors = x.reshape(1, n, _places(n_in), -1).mT.expand(n_blocks, -1, -1, -1).flatten()
    sums: Tensor = torch.ops.quantized.embedding_bag_byte_rowwise_offsets(
        table.view(-1, n_bytes),
        *_order(n_blocks, n_in, n),
        per_sample_weights=factors.contiguous(),  # one number for all blocks would be a view
    )  # (n_blocks · n, width)
    if n > 1:
        sums = sums.view(n_blocks, n, -1).transpose(0, 1).reshape(n, -1)
    return sums.view(*x.shape[:-1], -1)


@lru_cache(32)
def _order(n_blocks: int, n_in: int, n: int) -> tuple[Tensor, Tensor]:
    """Which rows are added up, and where each sum begins: a block for each vector in turn.

    The rows of both halves of a block alternate: a core that reads in two places waits less.
    """
    rows = torch.arange(n_blocks * n_in, dtype=torch.int32)
    in_turn = rows.view(n_blocks, 1, _places(n_in), -1).mT
    begins = torch.arange(0, n_blocks * n * n_in, n_in, dtype=torch.int32)
    return in_turn.expand(-1, n, -1, -1).flatten(), begins


def _places(n_in: int) -> int:
    """In how many places a block is read at once."""
    return 1 if n_in % 2 else 2
