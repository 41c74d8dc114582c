"""From logits to a distribution, stage by stage, and from a distribution to a token."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.errors import UserError
from gpt.settings import Sampling

GREEDY_BELOW = 1e-5
"""Temperatures under this are 0: dividing by them would only overflow."""
_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Stage:
    """What one setting did to the distribution."""

    name: str
    """"model" for the distribution that the stages start from, else the setting's name."""
    logprobs: Tensor
    """(V) natural logarithms after this stage; -inf for tokens that are gone. They sum to 1."""
    before: Tensor
    """The same before it."""

    @property
    def removed(self) -> Tensor:
        """(V) bool: the tokens that this stage took out."""
        return self.logprobs.isneginf() & ~self.before.isneginf()


def distribution(logits: Tensor, sampling: Sampling, context: Sequence[int]) -> list[Stage]:
    """The model's distribution and what each setting in turn made of it.

    logits (V) finite; context: ids of the text so far. The first stage is the model's own
    distribution at temperature 1, the last one is what a token is drawn from. Neutral settings
    make no stage. The order: banned, boosted, repetition penalty, temperature, top-k, top-p,
    min-p. Raises UserError if a setting leaves nothing to draw from.
    """
    logprobs = logits.float().log_softmax(-1)
    stages = [Stage("model", logprobs, logprobs)]
    scores = logits.float()
    for name, transform in _TRANSFORMS.items():
        if name in sampling.active:
            scores = transform(scores, sampling, context)
            if not scores.max().isfinite():
                raise UserError(f"{name} makes the scores overflow; bring it nearer to its default")
            stages.append(Stage(name, scores.log_softmax(-1), stages[-1].logprobs))
    return stages


def _ban(scores: Tensor, sampling: Sampling, context: Sequence[int]) -> Tensor:
    ids = [
        last for *before, last in sampling.banned if last < len(scores) and _ends(context, before)
    ]
    scores = scores.index_fill(
        0, torch.tensor(ids, device=scores.device, dtype=torch.long), -math.inf
    )
    if scores.isneginf().all():
        raise UserError("every token of the vocabulary is banned")
    return scores


def _boost(scores: Tensor, sampling: Sampling, context: Sequence[int]) -> Tensor:
    added = torch.zeros_like(scores)
    for ids, nats in sampling.boosted:
        for i in {next_id for n, next_id in enumerate(ids) if _ends(context, ids[:n])}:
            if i < len(scores):
                added[i] += nats
    return scores + added


def banned_and_boosted(scores: Tensor, sampling: Sampling, context: Sequence[int]) -> Tensor:
    """Scores (V) after the two settings that name tokens."""
    return _boost(_ban(scores, sampling, context), sampling, context)


def _ends(context: Sequence[int], ids: Sequence[int]) -> bool:
    """Whether a text ends with these ids; any does with none."""
    return len(ids) <= len(context) and list(context[len(context) - len(ids) :]) == list(ids)


def _penalise(scores: Tensor, sampling: Sampling, context: Sequence[int]) -> Tensor:
    ids = torch.tensor(sorted(set(context)), device=scores.device, dtype=torch.long)
    seen, penalty = scores[ids], sampling.repetition_penalty
    return scores.index_copy(0, ids, torch.where(seen > 0, seen / penalty, seen * penalty))


def _temper(scores: Tensor, sampling: Sampling, context: Sequence[int]) -> Tensor:
    scores = scores - scores.max()
    if sampling.temperature >= GREEDY_BELOW:
        return scores / sampling.temperature
    return torch.full_like(scores, -math.inf).index_fill(0, scores.argmax(), 0.0)


def _top_k(scores: Tensor, sampling: Sampling, context: Sequence[int]) -> Tensor:
    if sampling.top_k >= len(scores):
        return scores
    least = scores.topk(sampling.top_k).values[-1]
    keep = scores > least
    # Of tokens that tie for the last places, those with the lowest ids stay: exactly k are left.
    ties = (scores == least).nonzero()[:, 0][: sampling.top_k - int(keep.sum())]
    return scores.masked_fill(~keep.index_fill(0, ties, True), -math.inf)


def _top_p(scores: Tensor, sampling: Sampling, context: Sequence[int]) -> Tensor:
    p = scores.softmax(-1)
    # Floats that are not negative order like their bits, of which the upper half names a bin of
    # almost equal ones. Bins before the one in which top_p is reached stay, so it alone is sorted.
    bins = p.view(torch.int32) >> 16
    mass = torch.bincount(bins, weights=p)
    before = mass.flip(0).cumsum(0).roll(1)  # what all higher bins have together
    before[0] = 0.0
    wanted = max(sampling.top_p, _TINY)  # the best token stays, whatever is wanted
    place = int((before < wanted).nonzero()[-1])
    last = len(mass) - 1 - place
    ids = (bins == last).nonzero()[:, 0]
    ids = ids[scores[ids].sort(descending=True, stable=True).indices]  # finer than p is rounded
    p = p[ids]
    reached_before = before[place] + (p.cumsum(-1) - p)
    stays = (bins > last).index_fill_(0, ids[reached_before < wanted], True)
    return scores.masked_fill(~stays, -math.inf)


def _min_p(scores: Tensor, sampling: Sampling, context: Sequence[int]) -> Tensor:
    least = scores.max() + math.log(sampling.min_p)
    return scores.masked_fill(scores < least, -math.inf)


_TRANSFORMS: dict[str, Callable[[Tensor, Sampling, Sequence[int]], Tensor]] = {
    "banned": _ban,
    "boosted": _boost,
    "repetition_penalty": _penalise,
    "temperature": _temper,
    "top_k": _top_k,
    "top_p": _top_p,
    "min_p": _min_p,
}


def draw(logprobs: Tensor, seed: int, position: int) -> int:
    """One id from a distribution, logprobs (V), by dice that depend on three numbers alone.

    A race of exponential clocks: the clock of token i rings after noise / p, and the first is
    i with probability p, exactly (the Gumbel-max trick without its logarithms; Gumbel 1954).
    The noise of a token is a hash of (seed, position, id), so a text repeats bit for bit, and
    another temperature or a banned token meets the same dice.
    """
    ids = (logprobs > -math.inf).nonzero()[:, 0]
    if len(ids) == 1:
        return int(ids)
    return int(ids[(exponential(ids, seed, position) / logprobs[ids].exp()).argmin()])


def exponential(ids: Tensor, seed: int, position: int) -> Tensor:
    """Standard exponential noise (n) float32 for token ids (n), hashed with seed and position."""
    return noise(ids, *dice(seed, position))


def dice(seed: int, position: int) -> tuple[int, int]:
    """The two int32 that the noise at a position is hashed with."""
    key = _splitmix64(_splitmix64(seed) ^ position)
    return _signed(key & 0xFFFFFFFF), _signed(key >> 32)


def noise(ids: Tensor, first: int | Tensor, second: int | Tensor) -> Tensor:
    """Standard exponential noise (n) float32 for token ids (n) and what `dice` gave."""
    bits = ~_mix32(_mix32(ids.to(torch.int32) ^ first) ^ second)
    # Noise near 0 wins, and there a float is finest; the largest must not become infinite.
    uniform = (bits.float() + (bits < 0) * 2.0**32 + 0.5) / 2**32
    return -torch.log1p(-uniform.clamp_max(1 - 2**-24))


def _splitmix64(x: int) -> int:
    """Steele, Lea and Flood 2014: a good 64-bit mixing of one integer."""
    x = (x + 0x9E3779B97F4A7C15) & (2**64 - 1)
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return x ^ (x >> 31)


def _mix32(x: Tensor) -> Tensor:
    """Wellons' lowbias32 on int32 tensors, which wrap around alike on every device."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D  # the mask makes it a shift without the sign
    x = (x ^ ((x >> 15) & 0x1FFFF)) * _signed(0x846CA68B)
    return x ^ ((x >> 16) & 0xFFFF)


def _signed(x: int) -> int:
    """The int32 with the same 32 bits."""
    return x - 2**32 if x >= 2**31 else x
