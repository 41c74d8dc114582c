"""How well a network predicts a text; it knows no training and no files."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.model import GPT


@torch.no_grad()
def mean_loss(model: GPT, ids: Tensor, *, batch_size: int = 32) -> float:
    """Mean cross-entropy in nats a token over disjoint windows of the model's block size.

    ids (N) int64 on any device. All tokens but the first are predicted once; the last
    window may be shorter than the others.
    """
    was_training = model.training
    model.eval()
    device = model.wte.weight.device
    T = model.config.block_size
    total, n = 0.0, len(ids) - 1
    full = n // T
    windows = [
        torch.stack(
            [ids[i * T : i * T + T + 1] for i in range(first, min(first + batch_size, full))]
        )
        for first in range(0, full, batch_size)
    ]
    if n % T:
        windows.append(ids[None, full * T :])
    for window in windows:
        window = window.to(device)  # (B, T + 1)
        logits = model(window[:, :-1])  # (B, T, V)
        targets = window[:, 1:].flatten()
        total += F.cross_entropy(logits.float().flatten(0, 1), targets, reduction="sum").item()
    model.train(was_training)
    return total / n
