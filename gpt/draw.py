"""Fast ways from logits to a token, which draw exactly what gpt/sampling.py draws.

They use tensors of fixed shapes and never read a number from one, so a GPU can repeat them without
the CPU, and a compiler can make one loop of them. Each setting is a tensor; a setting that is off
has a value that changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.noise import noise, noise_key
from gpt.prediction import Prediction
from gpt.sampling import distribution, draw
from gpt.settings import Sampling
from gpt.stages import GREEDY_BELOW, TINY, banned_and_boosted

NAMES_TOKENS = frozenset({"banned", "boosted", "repetition_penalty"})
"""Settings that change the scores of certain tokens, and so their order."""
FAST = NAMES_TOKENS | {"temperature", "top_k", "top_p", "min_p"}
"""Settings that the fast ways know. With any other one, gpt/sampling.py draws the token."""
_LAST = torch.iinfo(torch.int32).max
Race = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""The type of `race`."""


def race(
    scores: Tensor,
    ids: Tensor,
    settings: Tensor,
    key: Tensor,
    all_scores: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw one of n tokens: scores (n), best first, and their ids (n) → an id () and logprobs (n).

    The settings that name tokens are applied before. Only top-k and top-p need the order.

    Args:
        settings: (5) from `settings_tensor`.
        key: (2) from `noise_key`.
        all_scores: (V) of the whole vocabulary, if the n tokens are only its best: top-p is a
            share of them all.
    """
    first, second = key
    best = scores.max()
    if all_scores is not None:
        all_scores = all_scores - best
    return _finish(scores - best, ids, settings, noise(ids, first, second), all_scores)


def _finish(
    scores: Tensor, ids: Tensor, settings: Tensor, noise: Tensor, all_scores: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """As `race`, for scores of which the best is 0, and with the noise (n) of the n tokens."""
    temperature, top_k, top_p, log_min_p, _ = settings
    scores = scores / temperature
    place = torch.arange(len(scores), device=scores.device)
    scores = scores.masked_fill(place >= top_k, -math.inf)
    shares = scores.exp()
    total = shares.sum()
    if all_scores is not None:
        total = torch.where(top_k.isinf(), (all_scores / temperature).exp().sum(), total)
    p = shares / total
    outside = p.cumsum(-1) - p >= top_p  # never the first
    scores = scores.masked_fill(outside | (scores < log_min_p), -math.inf)
    final = scores.log_softmax(-1)
    clocks = noise / final.exp()
    # An argmin would be one block of threads on a GPU; these are many.
    return ids.masked_fill(clocks > clocks.amin(), _LAST).amin(), final


def settings_tensor(sampling: Sampling) -> Tensor:
    """(5) float32: temperature, top-k, top-p, the logarithm of min-p, repetition penalty."""
    greedy = sampling.temperature < GREEDY_BELOW
    numbers = (
        1.0 if greedy else sampling.temperature,
        1 if greedy else sampling.top_k or math.inf,
        max(sampling.top_p, TINY) if sampling.top_p < 1 else math.inf,  # rounding may reach 1
        math.log(sampling.min_p) if sampling.min_p else -math.inf,
        sampling.repetition_penalty,
    )
    return torch.tensor(numbers)


@dataclass(frozen=True)
class Drawn:
    """A token and the distribution that it was drawn from."""

    token_id: int
    final: Tensor | dict[int, float]
    """Log-probabilities after the settings: (V), or only those of the tokens that matter."""
    mu: float | None = None
    """mirostat's mu with which it was drawn; None without mirostat."""

    def logprob(self, token_id: int) -> float | None:
        """Log-probability of a token after the settings; None if they removed it."""
        if isinstance(self.final, dict):
            logprob = self.final.get(token_id, -math.inf)
        else:
            logprob = float(self.final[token_id])
        return None if logprob == -math.inf else logprob


def choose(
    prediction: Prediction,
    sampling: Sampling,
    path: Sequence[int],
    position: int,
    compiled: Race | None = None,
    breakers: Collection[int] = frozenset(),
) -> Drawn:
    """Draw a token with the noise of a position, looking at few tokens if the settings allow it.

    Args:
        prediction: for one token.
        path: ids of the text so far.
        compiled: `race` as machine code. Without it, the stages of gpt/sampling.py are faster
            than a race of the whole vocabulary.
        breakers: as for `distribution`.
    """
    drawn = None
    if sampling.active <= FAST:
        drawn = _draw_from_best(prediction, sampling, position, compiled or race)
        if drawn is None and compiled:
            drawn = _draw_from_all(prediction, sampling, position, compiled)
    if drawn is None:
        final = distribution(prediction.logits[0], sampling, path, breakers)[-1].logprobs
        mu = sampling.mu if "mirostat_tau" in sampling.active else None
        drawn = Drawn(draw(final, sampling.seed, position), final, mu)
    return drawn


def _draw_from_best(
    prediction: Prediction, sampling: Sampling, position: int, race: Race
) -> Drawn | None:
    """Draw among the most probable tokens; None if the settings may leave others as well."""
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
        settings, key = _settings_and_key(sampling, position, best.device)
        token, final = race(best, best_ids, settings, key, prediction.logprobs[0])
        token_id, after = int(token), [p for p in final.tolist() if p > -math.inf]
    else:
        return None
    n_left = len(after)
    # Of tokens that tie for the last place, the lowest id stays; here their order is arbitrary.
    is_whole = has_all if n_left == n else values[n_left] < values[n_left - 1]
    return Drawn(token_id, dict(zip(ids, after, strict=False))) if is_whole else None


def _draw_from_all(
    prediction: Prediction, sampling: Sampling, position: int, race: Race
) -> Drawn | None:
    """Draw among all tokens; None if a setting other than the temperature is on."""
    if sampling.active - {"temperature"} or sampling.temperature < GREEDY_BELOW:
        return None
    logprobs = prediction.logprobs[0]
    ids = torch.arange(len(logprobs), device=logprobs.device)
    settings, key = _settings_and_key(sampling, position, logprobs.device)
    token, final = race(logprobs, ids, settings, key, logprobs)
    return Drawn(int(token), final)


def _settings_and_key(
    sampling: Sampling, position: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    key = torch.tensor(noise_key(sampling.seed, position), dtype=torch.int32)
    return settings_tensor(sampling).to(device), key.to(device)


class SamplingTensors:
    """Sampling settings in device memory that never moves, so that a CUDA graph can read them."""

    def __init__(self, vocab_size: int, n_steps: int, device: torch.device) -> None:
        """n_steps: most tokens that may be drawn between two calls of `set`."""
        self.settings = settings_tensor(Sampling()).to(device)
        self.bias = torch.zeros(vocab_size, device=device)
        """(V) added to the logits: -inf for banned tokens, nats for boosted ones."""
        self.seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)
        """(V) whether the text contains a token."""
        self.keys = torch.zeros(n_steps, 2, dtype=torch.int32, device=device)
        """(n_steps, 2) the noise key of each step."""
        self._ids = torch.arange(vocab_size, dtype=torch.int32, device=device)

    def set(self, sampling: Sampling, path: Sequence[int], n_steps: int) -> None:
        """Prepare to draw n_steps tokens after a path."""
        self.settings.copy_(settings_tensor(sampling))
        self.seen.zero_()
        self.seen[torch.tensor(sorted(set(path)), device=self.seen.device)] = True
        keys = [noise_key(sampling.seed, len(path) + step) for step in range(n_steps)]
        self.keys[:n_steps] = torch.tensor(keys, dtype=torch.int32).to(self.keys.device)
        self.set_bias(sampling, path)

    def noise(self, step: Tensor) -> Tensor:
        """The noise (V) of a step: () number of the token since `set`."""
        first, second = self.keys.index_select(0, step.view(1))[0]
        return noise(self._ids, first, second)

    def set_bias(self, sampling: Sampling, path: Sequence[int]) -> None:
        """Ban and boost the tokens that the settings name for the position after a path."""
        self.bias.copy_(banned_and_boosted(torch.zeros(len(self.bias)), sampling, path))


def draw_from_logits(
    logits: Tensor, order: Tensor | None, sampling: SamplingTensors, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Logits (V) float32 → an id () and its log-probabilities (V) after all settings.

    Args:
        order: (V) ids, highest logit first, if no setting names tokens and so changes the order.
        noise: (V) from `SamplingTensors.noise`.
    """
    if order is None:
        scores, penalty = logits + sampling.bias, sampling.settings[4]
        penalised = torch.where(scores > 0, scores / penalty, scores * penalty)
        scores = torch.where(sampling.seen, penalised, scores)
        # A stable order: of tokens that tie for the last places, those with the lowest ids stay.
        scores, ids = scores.sort(descending=True, stable=True)
    else:
        scores, ids = logits.index_select(0, order), order
    noise = noise.index_select(0, ids)
    token, final = _finish(scores - scores[0], ids, sampling.settings, noise)
    return token, torch.empty_like(final).scatter(0, ids, final)
