"""What each small dtype costs a model: how far its distributions are from those of float32."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from gpt import checkpoint, models
from gpt.errors import UserError
from gpt.generate import draws, logits_of
from gpt.settings import Sampling

TOKENS = 128
"""Tokens of the page, or as many as the block size."""
_WRITER = "float16"
"""Dtype of the model that writes the page: fast, and close to float32."""


@torch.inference_mode()
def measure(directory: Path) -> dict[str, float | None]:
    """Dtype → the mean of KL(float32 ‖ dtype), in nats a token, on a CPU.

    The text is a page that the model itself draws at temperature 1: no checkpoint comes with a
    text. None: the dtype gives no finite numbers. Two models are in memory at once. Raises
    UserError if float32 gives none.
    """
    try:
        ids = _page(directory, _WRITER)
    except UserError:  # it overflows
        ids = _page(directory, "float32")
    expected = _logits(directory, "float32", ids)
    found: dict[str, float | None] = {}
    for dtype in models.MEMORY_DTYPES[1:]:
        try:
            mean = _divergence(expected, _logits(directory, dtype, ids))
        except UserError:
            mean = math.nan
        found[dtype] = float(f"{mean:.2g}") if math.isfinite(mean) else None
    return found


def _page(directory: Path, dtype: str) -> list[int]:
    """Ids of a page that the model draws."""
    context = checkpoint.load(directory, "cpu", dtype).new_context()
    config = context.config
    ids = [next((i for i in (config.bos_id, config.eos_id) if i is not None), 0)]
    for _ in draws(context, ids, Sampling(seed=1), min(TOKENS, config.block_size) - 1, 1):
        pass
    return ids


def _logits(directory: Path, dtype: str, ids: list[int]) -> Tensor:
    """The logits (n - 1, V) for all of n ids but the first."""
    context = checkpoint.load(directory, "cpu", dtype).new_context()
    return torch.cat([torch.empty(0, context.config.vocab_size), *logits_of(context, ids)])


def _divergence(expected: Tensor, found: Tensor) -> float:
    """The mean of KL(expected ‖ found) for logits (n, V), in nats; NaN if n is 0."""
    total = 0.0
    for p, q in zip(
        torch.split(expected, 16), torch.split(found, 16), strict=True
    ):  # float64 takes much memory
        p, q = p.double().log_softmax(-1), q.double().log_softmax(-1)
        total += float((p.exp() * (p - q)).sum())
    return total / len(expected) if len(expected) else math.nan
