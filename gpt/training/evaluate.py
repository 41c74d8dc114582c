"""How well a network predicts a text: the numbers that people publish, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from gpt.model import GPT

Protocol = Literal["random", "disjoint", "sliding"]
PROTOCOLS: dict[Protocol, str] = {
    "random": "200 batches of 64 windows that begin anywhere (nanoGPT's estimate)",
    "disjoint": "windows side by side, each token once",
    "sliding": "windows that move on by 64, each token once with more context",
}
WINDOW = 256
"""Tokens of context at most, as in what others publish on tiny Shakespeare."""
STRIDE = 64
_N_RANDOM, _BATCH = 200 * 64, 32


@dataclass(frozen=True)
class Loss:
    """A mean cross-entropy, in units by which models of different vocabularies compare."""

    nats_per_token: float
    tokens_per_character: float
    characters_per_byte: float
    """Of UTF-8."""

    @property
    def nats_per_character(self) -> float:
        """The usual number for models of characters."""
        return self.nats_per_token * self.tokens_per_character

    @property
    def bits_per_character(self) -> float:
        """Nats over ln 2."""
        return self.nats_per_character / math.log(2)

    @property
    def bits_per_byte(self) -> float:
        """The number that compares any two models on any text."""
        return self.bits_per_character * self.characters_per_byte

    def to_dict(self) -> dict[str, Any]:
        """Every unit by its name."""
        units = ("nats_per_character", "bits_per_character", "bits_per_byte")
        return {**asdict(self), **{unit: getattr(self, unit) for unit in units}}


@dataclass(frozen=True)
class _Window:
    """ids[start : start + length + 1], of whose length predictions the last `counted` count."""

    start: int
    length: int
    counted: int


@torch.no_grad()
def mean_loss(
    model: GPT,
    ids: Tensor,
    protocol: Protocol = "disjoint",
    *,
    window: int | None = None,
    done: Callable[[float], object] = lambda share: None,
) -> float:
    """Mean cross-entropy in nats a token, in windows of the model's block size or less.

    ids (N) int64, N ≥ 2, on any device. done gets the share of the work that is over.
    """
    length = min(window or model.config.block_size, len(ids) - 1)
    windows = _windows(protocol, len(ids), length)
    was_training, device = model.training, model.wte.weight.device
    model.eval()
    total, n, read = 0.0, 0, 0
    for shape, alike in groupby(windows, key=lambda w: (w.length, w.counted)):
        group = list(alike)
        for first in range(0, len(group), _BATCH):
            part = group[first : first + _BATCH]
            batch = torch.stack([ids[w.start : w.start + w.length + 1] for w in part]).to(device)
            hidden = model.hidden(batch[:, :-1])[:, -shape[1] :]  # (B, counted, E)
            logits = model.logits(hidden).float().flatten(0, 1)  # (B · counted, V)
            targets = batch[:, -shape[1] :].flatten()
            total += F.cross_entropy(logits, targets, reduction="sum").item()
            n, read = n + len(targets), read + len(part)
            done(read / len(windows))
    model.train(was_training)
    return total / n


def _windows(protocol: Protocol, n_ids: int, length: int) -> list[_Window]:
    T = length
    last = n_ids - 1 - T
    if protocol == "random":
        random = torch.Generator().manual_seed(0)
        starts = torch.randint(last + 1, (_N_RANDOM,), generator=random)
        return [_Window(start, T, T) for start in starts.tolist()]
    stride = T if protocol == "disjoint" else min(STRIDE, T)
    found = [_Window(0, T, T)]
    found += [_Window(start, T, stride) for start in range(stride, last + 1, stride)]
    rest = last % stride
    if not rest:
        return found
    # The tokens behind the last whole step: alone, or behind what the window has room for.
    behind = rest if protocol == "disjoint" else T
    return [*found, _Window(n_ids - 1 - behind, behind, rest)]
