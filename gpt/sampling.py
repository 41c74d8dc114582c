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
"""Lower temperatures count as 0, because dividing by them would overflow."""
TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class Stage:
    """The distribution before and after one setting."""

    name: str
    """Name of the setting; "model" for the first stage, the model's own distribution."""
    logprobs: Tensor
    """(V) natural log-probabilities after this stage; -inf for removed tokens."""
    before: Tensor
    """(V) natural log-probabilities before this stage."""

    @property
    def removed(self) -> Tensor:
        """(V) bool: whether this stage removed the token."""
        return self.logprobs.isneginf() & ~self.before.isneginf()


def distribution(logits: Tensor, sampling: Sampling, path: Sequence[int]) -> list[Stage]:
    """The model's distribution, and the one after each setting.

    The first stage is the model's own distribution at temperature 1; a token is drawn from the
    last one. Settings with neutral values make no stage. The order is: banned, boosted, repetition
    penalty, temperature, top-k, top-p, min-p. Settings that leave nothing to draw are refused.

    Args:
        logits: (V), all finite.
        path: ids of the text so far.
    """
    logprobs = logits.float().log_softmax(-1)
    stages = [Stage("model", logprobs, logprobs)]
    scores = logits.float()
    for name, apply in _STAGES.items():
        if name in sampling.active:
            scores = apply(scores, sampling, path)
            if not scores.max().isfinite():
                raise UserError(f"{name} makes the scores overflow; bring it nearer to its default")
            stages.append(Stage(name, scores.log_softmax(-1), stages[-1].logprobs))
    return stages


def _ban(scores: Tensor, sampling: Sampling, path: Sequence[int]) -> Tensor:
    """scores (V) → new scores (V), like each function in `_STAGES`."""
    ids = [last for *before, last in sampling.banned if last < len(scores) and _ends(path, before)]
    scores = scores.index_fill(
        0, torch.tensor(ids, device=scores.device, dtype=torch.long), -math.inf
    )
    if scores.isneginf().all():
        raise UserError("every token of the vocabulary is banned")
    return scores


def _boost(scores: Tensor, sampling: Sampling, path: Sequence[int]) -> Tensor:
    added = torch.zeros_like(scores)
    for ids, nats in sampling.boosted:
        for i in {next_id for n, next_id in enumerate(ids) if _ends(path, ids[:n])}:
            if i < len(scores):
                added[i] += nats
    return scores + added


def banned_and_boosted(scores: Tensor, sampling: Sampling, path: Sequence[int]) -> Tensor:
    """Scores (V) after banning and boosting, the two settings that name tokens."""
    return _boost(_ban(scores, sampling, path), sampling, path)


def _ends(path: Sequence[int], ids: Sequence[int]) -> bool:
    """Whether a text ends with these ids; True if there are none."""
    return len(ids) <= len(path) and list(path[len(path) - len(ids) :]) == list(ids)


def _penalise(scores: Tensor, sampling: Sampling, path: Sequence[int]) -> Tensor:
    ids = torch.tensor(sorted(set(path)), device=scores.device, dtype=torch.long)
    seen, penalty = scores[ids], sampling.repetition_penalty
    return scores.index_copy(0, ids, torch.where(seen > 0, seen / penalty, seen * penalty))


def _temper(scores: Tensor, sampling: Sampling, path: Sequence[int]) -> Tensor:
    scores = scores - scores.max()
    if sampling.temperature >= GREEDY_BELOW:
        return scores / sampling.temperature
    return torch.full_like(scores, -math.inf).index_fill(0, scores.argmax(), 0.0)


def _top_k(scores: Tensor, sampling: Sampling, path: Sequence[int]) -> Tensor:
    if sampling.top_k >= len(scores):
        return scores
    least = scores.topk(sampling.top_k).values[-1]
    keep = scores > least
    # If tokens tie for the last places, those with the lowest ids stay: exactly k are left.
    ties = (scores == least).nonzero()[:, 0][: sampling.top_k - int(keep.sum())]
    return scores.masked_fill(~keep.index_fill(0, ties, True), -math.inf)


def _top_p(scores: Tensor, sampling: Sampling, path: Sequence[int]) -> Tensor:
    p = scores.softmax(-1)
    # Floats that are not negative have the same order as their bits, so the upper 16 bits name a
    # bin of almost equal floats. Higher bins than the one in which top_p is reached stay whole, so
    # only that bin is sorted.
    bins = p.view(torch.int32) >> 16
    mass = torch.bincount(bins, weights=p)
    before = mass.flip(0).cumsum(0).roll(1)  # probability of all higher bins together
    before[0] = 0.0
    wanted = max(sampling.top_p, TINY)  # the most probable token stays even if top_p is 0
    place = int((before < wanted).nonzero()[-1])
    last = len(mass) - 1 - place
    ids = (bins == last).nonzero()[:, 0]
    # Sorted by score, because different scores may have the same rounded p.
    ids = ids[scores[ids].sort(descending=True, stable=True).indices]
    p = p[ids]
    reached_before = before[place] + (p.cumsum(-1) - p)
    stays = (bins > last).index_fill_(0, ids[reached_before < wanted], True)
    return scores.masked_fill(~stays, -math.inf)


def _min_p(scores: Tensor, sampling: Sampling, path: Sequence[int]) -> Tensor:
    least = scores.max() + math.log(sampling.min_p)
    return scores.masked_fill(scores < least, -math.inf)


_STAGES: dict[str, Callable[[Tensor, Sampling, Sequence[int]], Tensor]] = {
    "banned": _ban,
    "boosted": _boost,
    "repetition_penalty": _penalise,
    "temperature": _temper,
    "top_k": _top_k,
    "top_p": _top_p,
    "min_p": _min_p,
}
"""Setting → (scores (V), settings, ids of the text so far) → new scores (V), in their order."""


def draw(logprobs: Tensor, seed: int, position: int) -> int:
    """Draw an id from a distribution, logprobs (V).

    It is a race of exponential clocks: the clock of token i rings after noise / p, and it rings
    first with probability p, exactly (the Gumbel-max trick without its logarithms; Gumbel 1954).
    The noise of a token is a hash of (seed, position, id). So a text repeats bit for bit, and the
    noise stays the same if the temperature changes or a token is banned.
    """
    ids = (logprobs > -math.inf).nonzero()[:, 0]
    if len(ids) == 1:
        return int(ids)
    return int(ids[(exponential(ids, seed, position) / logprobs[ids].exp()).argmin()])


def exponential(ids: Tensor, seed: int, position: int) -> Tensor:
    """Exponential noise (n) float32 with mean 1 for token ids (n) at a position."""
    return noise(ids, *noise_key(seed, position))


def noise_key(seed: int, position: int) -> tuple[int, int]:
    """Two int32 hashed from seed and position, for `noise`."""
    key = _splitmix64(_splitmix64(seed) ^ position)
    return _signed(key & 0xFFFFFFFF), _signed(key >> 32)


def noise(ids: Tensor, first: int | Tensor, second: int | Tensor) -> Tensor:
    """Exponential noise (n) float32 with mean 1 for token ids (n). first, second: the noise key."""
    bits = ~_mix32(_mix32(ids.to(torch.int32) ^ first) ^ second)
    # The smallest noise wins, and floats are finest near 0. The largest must not be infinite.
    uniform = (bits.float() + (bits < 0) * 2.0**32 + 0.5) / 2**32
    return -torch.log1p(-uniform.clamp_max(1 - 2**-24))


def _splitmix64(x: int) -> int:
    """Hash of a 64-bit integer (Steele, Lea and Flood 2014)."""
    x = (x + 0x9E3779B97F4A7C15) & (2**64 - 1)
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return x ^ (x >> 31)


def _mix32(x: Tensor) -> Tensor:
    """Hash of int32 tensors (Wellons' lowbias32); they wrap around the same on every device."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D  # the mask removes the copies of the sign bit
    x = (x ^ ((x >> 15) & 0x1FFFF)) * _signed(0x846CA68B)
    return x ^ ((x >> 16) & 0xFFFF)


def _signed(x: int) -> int:
    """The int32 with the same 32 bits."""
    return x - 2**32 if x >= 2**31 else x
