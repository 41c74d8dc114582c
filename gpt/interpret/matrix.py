"""Rows of the network's matrices as float32, however they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from gpt.model import GPT
from gpt.weights import packed_int8
from gpt.weights.packed_int8 import PACKED_INT8
from gpt.weights.products import ROWS_AT_ONCE


def output_matrix(model: GPT) -> nn.Module:
    """The module whose weight (V, E) makes logits of hidden states."""
    return model.wte if model.config.tied else model.lm_head


def row_blocks(module: nn.Module, n_rows: int = ROWS_AT_ONCE) -> Iterator[Tensor]:
    """The weight (out, in) of a linear layer or an embedding, some rows (n, in) at a time."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    scale: Tensor | None = getattr(module, "scale", None)
    if weight.dtype != PACKED_INT8:
        scales = [None] * len(weight) if scale is None else torch.split(scale, n_rows)
        for rows, of_rows in zip(torch.split(weight, n_rows), scales, strict=False):
            yield rows.float() if of_rows is None else rows.float() * of_rows[:, None]
        return
    assert scale is not None  # noqa: S101 (packed weights have scales)
    done = 0
    for block in torch.split(weight, 1):
        rows = packed_int8.unpack(block)[: len(scale) - done]  # the last ones are padding
        yield rows.float() * scale[done : done + len(rows), None]
        done += len(rows)


def rows_of(module: nn.Module, indices: Sequence[int]) -> Tensor:
    """Some rows (n, in) of a weight."""
    weight: Tensor = module.weight  # type: ignore[assignment]
    wanted = torch.tensor(list(indices), device=weight.device)
    scale: Tensor | None = getattr(module, "scale", None)
    is_packed = weight.dtype == PACKED_INT8
    rows = packed_int8.unpack_rows(weight, wanted) if is_packed else weight[wanted]
    return rows.float() if scale is None else rows.float() * scale[wanted][:, None]
