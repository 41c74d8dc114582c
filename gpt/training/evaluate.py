"""How well a network predicts a text, by the three protocols that people publish."""

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
    "random": "12,800 windows at random places (nanoGPT), or all of a short text",
    "disjoint": "windows side by side, each token once",
    "sliding": "windows that move by 64, each token once, with more context",
}
WINDOW = 256
"""Most tokens of context, as in published results on tiny Shakespeare."""
STRIDE = 64
"""Tokens by which sliding windows move."""
_N_RANDOM, _BATCH = 200 * 64, 32


@dataclass(frozen=True)
class Loss:
    """A mean cross-entropy, in units that compare models with different vocabularies."""

    nats_per_token: float
    tokens_per_character: float
    characters_per_byte: float
    """Characters per byte of UTF-8."""

    @property
    def nats_per_character(self) -> float:
        """The usual number for models whose tokens are characters."""
        return self.nats_per_token * self.tokens_per_character

    @property
    def bits_per_character(self) -> float:
        """Nats per character divided by ln 2."""
        return self.nats_per_character / math.log(2)

    @property
    def bits_per_byte(self) -> float:
        """The number that compares any two models on any text."""
        return self.bits_per_character * self.characters_per_byte

    def to_dict(self) -> dict[str, Any]:
        """The loss in every unit, by name."""
        units = ("nats_per_character", "bits_per_character", "bits_per_byte")
        return {**asdict(self), **{unit: getattr(self, unit) for unit in units}}


@dataclass(frozen=True)
class _Window:
    """ids[start : start + length + 1], with `length` predictions; the last `counted` count."""

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
    """Mean cross-entropy in nats per token.

    ids (N) int64, N ≥ 2, on any device. window: most tokens of context; None: the block size.
    done: is called with the share of the work that is done.
    """
    length = min(window or model.config.block_size, len(ids) - 1)
    windows = _windows(protocol, len(ids), length)
    was_training, device = model.training, model.wte.weight.device
    model.eval()
    total, n, read = 0.0, 0, 0
    # Windows of one shape can be in one batch.
    for (_, counted), same_shape in groupby(windows, key=lambda w: (w.length, w.counted)):
        group = list(same_shape)
        for first in range(0, len(group), _BATCH):
            part = group[first : first + _BATCH]
            batch = torch.stack([ids[w.start : w.start + w.length + 1] for w in part]).to(device)
            hidden = model.hidden(batch[:, :-1])[:, -counted:]  # (B, counted, E)
            logits = model.logits(hidden).float().flatten(0, 1)  # (B · counted, V)
            targets = batch[:, -counted:].flatten()  # (B · counted)
            total += F.cross_entropy(logits, targets, reduction="sum").item()
            n, read = n + len(targets), read + len(part)
            done(read / len(windows))
    model.train(was_training)
    return total / n


def _windows(protocol: Protocol, n_ids: int, length: int) -> list[_Window]:
    """The windows of a protocol over n_ids ids, `length` predictions each (or fewer at the end)."""
    T = length
    last = n_ids - 1 - T  # start of the last window that fits
    if protocol == "random":
        if last < _N_RANDOM:  # a short text: what the random places would give in the mean
            return [_Window(start, T, T) for start in range(last + 1)]
        random = torch.Generator().manual_seed(0)
        starts = torch.randint(last + 1, (_N_RANDOM,), generator=random)
        return [_Window(start, T, T) for start in starts.tolist()]
    stride = T if protocol == "disjoint" else min(STRIDE, T)
    found = [_Window(0, T, T)]
    found += [_Window(start, T, stride) for start in range(stride, last + 1, stride)]
    rest = last % stride
    if not rest:
        return found
    # The tokens after the last full stride: in a short window, or with as much context as fits.
    final = rest if protocol == "disjoint" else T
    return [*found, _Window(n_ids - 1 - final, final, rest)]
