"""The short ways from logits to a token; they draw what gpt/sampling.py draws.

Tensors of fixed shapes and no look at any number on the way: so a device can repeat it by itself,
and a compiler can make one piece of it. Each setting is a tensor, and one that is neutral has a
value that changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.prediction import Prediction
from gpt.sampling import (
    GREEDY_BELOW,
    banned_and_boosted,
    dice,
    distribution,
    draw,
    noise,
)
from gpt.settings import Sampling

NAMES_TOKENS = frozenset({"banned", "boosted", "repetition_penalty"})
"""Settings that change the scores of certain tokens and so their order."""
Race = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def race(
    scores: Tensor, ids: Tensor, numbers: Tensor, thrown: Tensor, everyone: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scores (n), best first, and their ids (n) → an id () and the logarithms of all (n).

    Their order matters to top-k and top-p alone. numbers: `numbers_of` the settings; thrown (2):
    what the noise is hashed with. everyone (V): the scores of all tokens, where the n may be only
    the best; top-p is a share of them, too. No settings that name tokens: they come before.
    """
    temperature, top_k, top_p, log_min_p, _ = numbers
    best = scores.max()
    scores = (scores - best) / temperature
    place = torch.arange(len(scores), device=scores.device)
    scores = scores.masked_fill(place >= top_k, -math.inf)
    shares = scores.exp()
    total = shares.sum()
    if everyone is not None:
        total = torch.where(top_k.isinf(), ((everyone - best) / temperature).exp().sum(), total)
    p = shares / total
    outside = (p.cumsum(-1) - p >= top_p) & (place > 0)
    scores = scores.masked_fill(outside | (scores < log_min_p), -math.inf)
    final = scores.log_softmax(-1)
    first, second = thrown
    drawn = (noise(ids, first, second) / final.exp()).argmin()
    return ids.index_select(0, drawn.view(1))[0], final


def numbers_of(sampling: Sampling) -> Tensor:
    """Temperature, top-k, top-p, the logarithm of min-p and repetition penalty, (5) float32."""
    greedy = sampling.temperature < GREEDY_BELOW
    numbers = (
        1.0 if greedy else sampling.temperature,
        1 if greedy else sampling.top_k or math.inf,
        sampling.top_p if sampling.top_p < 1 else math.inf,  # rounding may reach 1
        math.log(sampling.min_p) if sampling.min_p else -math.inf,
        sampling.repetition_penalty,
    )
    return torch.tensor(numbers)


@dataclass(frozen=True)
class Drawn:
    """A token and the distribution that it was drawn from."""

    token_id: int
    final: Tensor | dict[int, float]
    """(V) log-probabilities after the settings, or those of tokens that matter."""

    def logprob(self, token_id: int) -> float | None:
        """Of any token after the settings; None where they removed it."""
        if isinstance(self.final, dict):
            logprob = self.final.get(token_id, -math.inf)
        else:
            logprob = float(self.final[token_id])
        return None if logprob == -math.inf else logprob


def choose(
    prediction: Prediction,
    sampling: Sampling,
    context: Sequence[int],
    position: int,
    compiled: Race | None = None,
) -> Drawn:
    """Draw by the dice of a position, with a look at few tokens where the settings leave few.

    prediction: of one token. compiled: what was made of `race`; only with it is a race of all
    tokens faster than the stages.
    """
    drawn = _draw_from_best(prediction, sampling, position, compiled or race)
    if drawn is None and compiled:
        drawn = _draw_from_all(prediction, sampling, position, compiled)
    if drawn is None:
        final = distribution(prediction.logits[0], sampling, context)[-1].logprobs
        drawn = Drawn(draw(final, sampling.seed, position), final)
    return drawn


def _draw_from_best(
    prediction: Prediction, sampling: Sampling, position: int, race: Race
) -> Drawn | None:
    """Draw among the tokens that were looked up; None where that may not be all there is."""
    active, n = sampling.active, prediction.top_ids.size(-1)
    if active & NAMES_TOKENS:
        return None
    has_all = n == prediction.logprobs.size(-1)
    if sampling.temperature < GREEDY_BELOW:
        ((token_id,),) = prediction.top_ids[:, :1].tolist()
        (values,) = prediction.top_logprobs[:, :2].tolist()
        ids, after = [token_id], [0.0]
    elif has_all or (active & {"top_k", "top_p", "min_p"} and sampling.top_k < n):
        best, best_ids = prediction.top_logprobs[0], prediction.top_ids[0]
        values, ids = best.tolist(), best_ids.tolist()
        numbers, thrown = _numbers_and_dice(sampling, position, best.device)
        token, final = race(best, best_ids, numbers, thrown, prediction.logprobs[0])
        token_id, after = int(token), [p for p in final.tolist() if p > -math.inf]
    else:
        return None
    left = len(after)
    # Of tokens that tie for the last place, the lowest id stays, and their order here is any.
    is_whole = has_all if left == n else values[left] < values[left - 1]
    return Drawn(token_id, dict(zip(ids, after, strict=False))) if is_whole else None


def _draw_from_all(
    prediction: Prediction, sampling: Sampling, position: int, race: Race
) -> Drawn | None:
    """Draw among all tokens; None where more changes their scores than a temperature."""
    if sampling.active - {"temperature"} or sampling.temperature < GREEDY_BELOW:
        return None
    logprobs = prediction.logprobs[0]
    ids = torch.arange(len(logprobs), device=logprobs.device)
    numbers, thrown = _numbers_and_dice(sampling, position, logprobs.device)
    token, final = race(logprobs, ids, numbers, thrown, logprobs)
    return Drawn(int(token), final)


def _numbers_and_dice(
    sampling: Sampling, position: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    thrown = torch.tensor(dice(sampling.seed, position), dtype=torch.int32)
    return numbers_of(sampling).to(device), thrown.to(device)


class Dials:
    """Settings of sampling in memory of a device that stays where it is."""

    def __init__(self, vocab_size: int, n_steps: int, device: torch.device) -> None:
        """n_steps: how many tokens may be drawn between two calls of `set`."""
        self.numbers = numbers_of(Sampling()).to(device)
        self.bias = torch.zeros(vocab_size, device=device)
        """(V) What is added to the logits: -inf for banned tokens, nats for boosted ones."""
        self.seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)
        """(V) Whether the text has a token."""
        self.dice = torch.zeros(n_steps, 2, dtype=torch.int32, device=device)
        """(n_steps, 2) What the noise of each step is hashed with."""

    def set(self, sampling: Sampling, path: Sequence[int], n_steps: int) -> None:
        """Make ready for so many tokens behind a path."""
        self.numbers.copy_(numbers_of(sampling))
        self.seen.zero_()
        self.seen[torch.tensor(sorted(set(path)), device=self.seen.device)] = True
        thrown = [dice(sampling.seed, len(path) + step) for step in range(n_steps)]
        self.dice[:n_steps] = torch.tensor(thrown, dtype=torch.int32).to(self.dice.device)
        self.lean(sampling, path)

    def lean(self, sampling: Sampling, path: Sequence[int]) -> None:
        """Ban and boost what the settings want behind this path."""
        self.bias.copy_(banned_and_boosted(torch.zeros(len(self.bias)), sampling, path))


def settle(
    logits: Tensor, order: Tensor | None, dials: Dials, step: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits (V) float32 and the number of the step () → an id () and its distribution (V).

    The distribution is of logarithms, after all settings. order (V): ids, the highest logit first,
    for settings that name no token and leave it as it is; None for others.
    """
    if order is None:
        scores, penalty = logits + dials.bias, dials.numbers[4]
        penalised = torch.where(scores > 0, scores / penalty, scores * penalty)
        scores = torch.where(dials.seen, penalised, scores)
        # A stable order: of tokens that tie for the last places, those with the lowest ids stay.
        scores, ids = scores.sort(descending=True, stable=True)
    else:
        scores, ids = logits.index_select(0, order), order
    thrown = dials.dice.index_select(0, step.view(1))[0]
    token, final = race(scores, ids, dials.numbers, thrown)
    return token, torch.empty_like(final).scatter(0, ids, final)
