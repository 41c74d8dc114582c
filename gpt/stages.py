"""What each sampling setting does to the scores of the tokens: a function for each stage."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gpt.errors import UserError
from gpt.noise import coin
from gpt.settings import Sampling

GREEDY_BELOW = 1e-5
"""Lower temperatures count as 0, because dividing by them would overflow."""
TINY = torch.finfo(torch.float32).tiny
BREAKERS = b'\n:"*'
"""DRY never sees a repetition across a token that has one of these bytes."""
_HIGHEST = 1e30
"""Most that DRY takes from a logit, so that no token is lost."""


class Prefix(NamedTuple):
    """The text so far."""

    ids: Sequence[int]
    breakers: Collection[int] = frozenset()
    """From `breakers_of`; only DRY needs them."""


class _Bytes(Protocol):
    """What `breakers_of` needs of a tokenizer."""

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of a token."""


def breakers_of(tokenizer: _Bytes, vocab_size: int) -> frozenset[int]:
    """Ids of the tokens at which a repetition ends: those that have a byte of BREAKERS."""
    signs = frozenset(BREAKERS)
    found = (i for i in range(vocab_size) if not signs.isdisjoint(tokenizer.token_bytes(i)))
    return frozenset(found)


def _ban(scores: Tensor, sampling: Sampling, prefix: Prefix) -> Tensor:
    """scores (V) → new scores (V), like each function in STAGES."""
    ids = [
        last for *before, last in sampling.banned if last < len(scores) and _ends(prefix, before)
    ]
    scores = scores.index_fill(
        0, torch.tensor(ids, device=scores.device, dtype=torch.long), -math.inf
    )
    if scores.isneginf().all():
        raise UserError("every token of the vocabulary is banned")
    return scores


def _boost(scores: Tensor, sampling: Sampling, prefix: Prefix) -> Tensor:
    added = torch.zeros_like(scores)
    for ids, nats in sampling.boosted:
        for i in {next_id for n, next_id in enumerate(ids) if _ends(prefix, ids[:n])}:
            if i < len(scores):
                added[i] += nats
    return scores + added


def banned_and_boosted(scores: Tensor, sampling: Sampling, path: Sequence[int]) -> Tensor:
    """Scores (V) after banning and boosting, the two settings that name tokens."""
    prefix = Prefix(path)
    return _boost(_ban(scores, sampling, prefix), sampling, prefix)


def _ends(prefix: Prefix, ids: Sequence[int]) -> bool:
    """Whether a text ends with these ids; True if there are none."""
    path = prefix.ids
    return len(ids) <= len(path) and list(path[len(path) - len(ids) :]) == list(ids)


def _last(ids: Sequence[int], n: int) -> Sequence[int]:
    """The last n ids; all for 0."""
    return ids[-n:] if n else ids


def _repetition(scores: Tensor, sampling: Sampling, prefix: Prefix) -> Tensor:
    seen = sorted(set(_last(prefix.ids, sampling.penalty_window)))
    ids = torch.tensor(seen, device=scores.device, dtype=torch.long)
    old, penalty = scores[ids], sampling.repetition_penalty
    return scores.index_copy(0, ids, torch.where(old > 0, old / penalty, old * penalty))


def _presence(scores: Tensor, sampling: Sampling, prefix: Prefix) -> Tensor:
    seen = set(_last(prefix.ids, sampling.penalty_window))
    return _subtract(scores, dict.fromkeys(seen, sampling.presence_penalty))


def _frequency(scores: Tensor, sampling: Sampling, prefix: Prefix) -> Tensor:
    counts = Counter(_last(prefix.ids, sampling.penalty_window))
    return _subtract(scores, {i: n * sampling.frequency_penalty for i, n in counts.items()})


def _subtract(scores: Tensor, nats: dict[int, float]) -> Tensor:
    ids = torch.tensor(list(nats), device=scores.device, dtype=torch.long)
    return scores.index_add(0, ids, -scores.new_tensor(list(nats.values())))


def _dry(scores: Tensor, sampling: Sampling, prefix: Prefix) -> Tensor:
    allowed = sampling.dry_allowed_length
    lost = {}
    for i, length in _repeated(_last(prefix.ids, sampling.dry_window), prefix.breakers).items():
        if length >= allowed and i not in prefix.breakers:
            power = math.log(sampling.dry_base) * (length - allowed)
            loss = sampling.dry_multiplier * math.exp(min(power, math.log(_HIGHEST)))
            lost[i] = min(loss, _HIGHEST)
    return _subtract(scores, lost)


def _repeated(ids: Sequence[int], breakers: Collection[int]) -> dict[int, int]:
    """Token → number of tokens at the end of ids that it already followed, the most of them."""
    back = ids[::-1]
    longest = next((n for n, i in enumerate(back) if i in breakers), len(back))
    found: dict[int, int] = {}
    if longest:
        for following, length in zip(back, _self_matches(back)[1:], strict=False):
            found[following] = max(found.get(following, 0), min(length, longest))
    return found


def _self_matches(ids: Sequence[int]) -> list[int]:
    """For each place, how many ids from there on are those from the start on.

    The Z-algorithm, which looks at each id about twice (Gusfield 1997, Algorithms on Strings).
    """
    found, left, right = [0] * len(ids), 0, 0
    for i in range(1, len(ids)):
        n = min(right - i, found[i - left]) if i < right else 0
        while i + n < len(ids) and ids[n] == ids[i + n]:
            n += 1
        found[i] = n
        if i + n > right:
            left, right = i, i + n
    return found


def _temper(scores: Tensor, sampling: Sampling, prefix: Prefix) -> Tensor:
    if "order" not in sampling.active:  # else the repetition penalty may still need their sign
        scores = scores - scores.max()
    temperature = _temperature(scores, sampling)
    if temperature >= GREEDY_BELOW:
        return scores / temperature
    return torch.full_like(scores, -math.inf).index_fill(0, scores.argmax(), 0.0)


def _temperature(scores: Tensor, sampling: Sampling) -> float:
    """The temperature for these scores (V): fixed, or by the share of the highest entropy."""
    middle, reach = sampling.temperature, sampling.dynatemp_range
    if not reach:
        return middle
    logprobs = scores.log_softmax(-1)
    n = int((logprobs > -math.inf).sum())
    if n < 2:
        return middle
    share = min(1.0, max(0.0, float(_entropy(logprobs)) / math.log(n)))
    low, high = max(0.0, middle - reach), middle + reach
    return low + (high - low) * math.pow(share, sampling.dynatemp_exponent)


def _entropy(logprobs: Tensor) -> Tensor:
    """() nats of a distribution, logprobs (V)."""
    return -(logprobs.exp() * logprobs).nansum()  # 0 · -inf is not a number


def _top_n_sigma(scores: Tensor, sampling: Sampling, prefix: Prefix) -> Tensor:
    sigma = scores[scores > -math.inf].std(correction=0)
    return scores.masked_fill(scores < scores.max() - sampling.top_n_sigma * sigma, -math.inf)


def _top_k(scores: Tensor, sampling: Sampling, prefix: Prefix) -> Tensor:
    if sampling.top_k >= len(scores):
        return scores
    least = scores.topk(sampling.top_k).values[-1]
    keep = scores > least
    # If tokens tie for the last places, those with the lowest ids stay: exactly k are left.
    ties = (scores == least).nonzero()[:, 0][: sampling.top_k - int(keep.sum())]
    return scores.masked_fill(~keep.index_fill(0, ties, True), -math.inf)


def _typical_p(scores: Tensor, sampling: Sampling, prefix: Prefix) -> Tensor:
    logprobs = scores.log_softmax(-1)
    distance = (logprobs + _entropy(logprobs)).abs()  # between surprisal and entropy
    ordered, ids = distance.sort()
    n_before = int((logprobs[ids].exp().cumsum(-1) < sampling.typical_p).sum())
    farthest = ordered[min(n_before, len(ordered) - 1)]
    return scores.masked_fill(distance > farthest, -math.inf)


def _top_p(scores: Tensor, sampling: Sampling, prefix: Prefix) -> Tensor:
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


def _min_p(scores: Tensor, sampling: Sampling, prefix: Prefix) -> Tensor:
    least = scores.max() + math.log(sampling.min_p)
    return scores.masked_fill(scores < least, -math.inf)


def _xtc(scores: Tensor, sampling: Sampling, prefix: Prefix) -> Tensor:
    if coin(sampling.seed, len(prefix.ids)) >= sampling.xtc_probability:
        return scores
    is_top = (scores.softmax(-1) >= sampling.xtc_threshold) & (scores > -math.inf)
    ids = is_top.nonzero()[:, 0]
    if len(ids) < 2:
        return scores
    least = ids[scores[ids].sort(descending=True, stable=True).indices][-1]
    return scores.index_fill(0, ids[ids != least], -math.inf)


def _mirostat(scores: Tensor, sampling: Sampling, prefix: Prefix) -> Tensor:
    surprisal = scores.log_softmax(-1) / -math.log(2)
    gone = (surprisal > sampling.mu).index_fill(0, scores.argmax(), False)
    return scores.masked_fill(gone, -math.inf)


STAGES: dict[str, Callable[[Tensor, Sampling, Prefix], Tensor]] = {
    "banned": _ban,
    "boosted": _boost,
    "repetition_penalty": _repetition,
    "presence_penalty": _presence,
    "frequency_penalty": _frequency,
    "dry_multiplier": _dry,
    "temperature": _temper,
    "top_n_sigma": _top_n_sigma,
    "top_k": _top_k,
    "typical_p": _typical_p,
    "top_p": _top_p,
    "min_p": _min_p,
    "xtc_probability": _xtc,
    "mirostat_tau": _mirostat,
}
"""Setting → (scores (V), settings, the text so far) → new scores (V)."""
