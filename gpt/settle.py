"""From logits to a token in tensors of fixed shapes, so that a device can repeat it by itself.

It gives what gpt/sampling.py gives, without a look at any number on the way: each setting is a
tensor, and one that is neutral has a value that changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gpt.sampling import GREEDY_BELOW, banned_and_boosted, dice, noise
from gpt.settings import Sampling


class Dials:
    """Settings of sampling in memory of a device that stays where it is."""

    def __init__(self, vocab_size: int, n_steps: int, device: torch.device) -> None:
        """n_steps: how many tokens may be drawn between two calls of `set`."""
        self.numbers = torch.empty(5, device=device)
        """Temperature, top-k, top-p, the logarithm of min-p, repetition penalty."""
        self.bias = torch.empty(vocab_size, device=device)
        """(V) What is added to the logits: -inf for banned tokens, nats for boosted ones."""
        self.seen = torch.empty(vocab_size, dtype=torch.bool, device=device)
        """(V) Whether the text has a token."""
        self.dice = torch.empty(n_steps, 2, dtype=torch.int32, device=device)
        """(n_steps, 2) What the noise of each step is hashed with."""

    def set(self, sampling: Sampling, path: Sequence[int], n_steps: int) -> None:
        """Make ready for so many tokens behind a path."""
        greedy = sampling.temperature < GREEDY_BELOW
        numbers = (
            1.0 if greedy else sampling.temperature,
            1 if greedy else sampling.top_k or math.inf,
            sampling.top_p if sampling.top_p < 1 else math.inf,  # rounding may reach 1
            math.log(sampling.min_p) if sampling.min_p else -math.inf,
            sampling.repetition_penalty,
        )
        self.numbers.copy_(torch.tensor(numbers))
        self.seen.zero_()
        self.seen[torch.tensor(sorted(set(path)), device=self.seen.device)] = True
        thrown = [dice(sampling.seed, len(path) + step) for step in range(n_steps)]
        self.dice[:n_steps] = torch.tensor(thrown, dtype=torch.int32).to(self.dice.device)
        self.lean(sampling, path)

    def lean(self, sampling: Sampling, path: Sequence[int]) -> None:
        """Ban and boost what the settings want behind this path."""
        self.bias.copy_(banned_and_boosted(torch.zeros(len(self.bias)), sampling, path))


def settle(logits: Tensor, dials: Dials, step: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (V) float32 and the number of the step () → an id () and its distribution (V).

    The distribution is of logarithms, after all settings.
    """
    temperature, top_k, top_p, log_min_p, penalty = dials.numbers
    scores = logits + dials.bias
    penalised = torch.where(scores > 0, scores / penalty, scores * penalty)
    scores = torch.where(dials.seen, penalised, scores)
    # A stable order: of tokens that tie for the last places, those with the lowest ids stay.
    scores, ids = scores.sort(descending=True, stable=True)
    scores = (scores - scores[0]) / temperature
    place = torch.arange(len(scores), device=scores.device)
    scores = scores.masked_fill(place >= top_k, -math.inf)
    p = scores.softmax(-1)
    outside = (p.cumsum(-1) - p >= top_p) & (place > 0)
    scores = scores.masked_fill(outside | (scores < log_min_p), -math.inf)
    final = scores.log_softmax(-1)
    first, second = dials.dice.index_select(0, step.view(1))[0]
    drawn = (noise(ids, first, second) / final.exp()).argmin()
    return ids.index_select(0, drawn.view(1))[0], torch.empty_like(final).scatter(0, ids, final)
