"""Rows of the network's matrices as float32, however they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from gpt.model import GPT
from gpt.weights.products import ROWS_AT_ONCE, dequantized
from gpt.weights.quantize import Matrix


def output_matrix(model: GPT) -> nn.Module:
    """The module whose weight (V, E) makes logits of hidden states."""
    return model.wte if model.config.tied else model.lm_head


def row_blocks(module: nn.Module, n_rows: int = ROWS_AT_ONCE) -> Iterator[Tensor]:
    """The weight (out, in) of a linear layer or an embedding, some rows (n, in) at a time."""
    n_out = module.shape[0] if isinstance(module, Matrix) else len(_weight(module))
    for first in range(0, n_out, n_rows):
        yield _rows(module, slice(first, first + n_rows))


def rows_of(module: nn.Module, indices: Sequence[int]) -> Tensor:
    """Some rows (n, in) of a weight."""
    return _rows(module, torch.tensor(list(indices), device=_weight(module).device))


def _rows(module: nn.Module, rows: slice | Tensor) -> Tensor:
    if isinstance(module, Matrix):
        return dequantized(module, rows)
    return _weight(module)[rows].float()


def _weight(module: nn.Module) -> Tensor:
    weight: Tensor = module.weight  # type: ignore[assignment]
    return weight
