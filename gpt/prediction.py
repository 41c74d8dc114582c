"""The model's own distribution of the next token, before any sampling settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gpt.errors import UserError

TOP = 128
"""Most probable tokens that every prediction looks up, if the vocabulary has that many."""
_GROUP = 64
"""Neighbours in the vocabulary that form a group in the search for the most probable tokens."""


class NonFiniteLogitsError(UserError):
    """The network produced NaN or infinity, so there is no distribution."""


class Prediction(NamedTuple):
    """The model's own distributions of n next tokens, at temperature 1. Float32, except the ids."""

    logits: Tensor
    """(n, V) scores of the network."""
    logprobs: Tensor
    """(n, V) natural log-probabilities."""
    entropy: Tensor
    """(n) entropies in nats."""
    total: Tensor
    """(n) sums of the logits; finite only if all logits are finite."""
    top_logprobs: Tensor
    """(n, TOP) log-probabilities of the most probable tokens, best first; (n, V) if V < TOP."""
    top_ids: Tensor
    """(n, TOP) ids of the most probable tokens, best first; (n, V) if V < TOP."""


def predict(logits: Tensor) -> Prediction:
    """Logits (n, V) of any float dtype → the distributions that they define."""
    logits = logits.float()
    logprobs, entropy, total = describe(logits)
    return Prediction(logits, logprobs, entropy, total, *_best(logprobs))


def describe(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (n, V) float32 → `logprobs`, `entropy` and `total` of a Prediction."""
    logprobs = logits.log_softmax(-1)
    entropy = -(logprobs.exp() * logprobs.clamp_min(-1e9)).sum(-1)  # a probability of 0 adds 0
    return logprobs, entropy, logits.sum(-1)


def highest_first(logits: Tensor) -> Tensor:
    """Logits (V) → all ids (V), highest logit first; among equal logits, the lowest id."""
    return logits.sort(descending=True, stable=True).indices


def _best(logprobs: Tensor) -> tuple[Tensor, Tensor]:
    """logprobs (n, V) → the highest of each row, best first, and their ids, (n, min(TOP, V)) each.

    In a large vocabulary, only the TOP groups whose best token is most probable are searched: a
    group that contains one of the TOP tokens ranks above every group that contains none.
    """
    n, V = logprobs.shape
    if V <= TOP * _GROUP:
        values, ids = logprobs.topk(min(TOP, V), dim=-1)
        return values, ids
    ids = torch.arange(V, device=logprobs.device)
    end = V - V % _GROUP  # the tokens from here on are no whole group and are always searched
    groups = logprobs[:, :end].view(n, -1, _GROUP)  # (n, V // _GROUP, _GROUP)
    best = groups.amax(-1).topk(TOP, sorted=False).indices  # (n, TOP)
    best = best[..., None].expand(-1, -1, _GROUP)  # (n, TOP, _GROUP)
    searched = [groups.gather(1, best).flatten(1), logprobs[:, end:]]
    searched_ids = [(best * _GROUP + ids[:_GROUP]).flatten(1), ids[end:].expand(n, -1)]
    values, places = torch.cat(searched, dim=-1).topk(TOP, dim=-1)  # (n, TOP)
    return values, torch.cat(searched_ids, dim=-1).gather(-1, places)


def check_finite(total: float, position: int) -> None:
    """Raise NonFiniteLogitsError if a sum of logits is not finite.

    position: index of the token that the logits predict.
    """
    if not math.isfinite(total):
        raise NonFiniteLogitsError(
            f"the network's logits for the token at position {position} are not finite; "
            "its weights are damaged or the dtype overflows (try --dtype float32)"
        )


@dataclass(frozen=True)
class ReadOut:
    """How probable a token is in a distribution, and the most probable tokens."""

    logprob: float
    """Natural log-probability of the token."""
    rank: int
    """Place of the token by probability; 1 is the most probable."""
    entropy: float
    """Entropy of the distribution in nats."""
    top_ids: list[int]
    """Ids of the most probable tokens, best first."""
    top_logprobs: list[float]
    """Log-probabilities of the most probable tokens, best first."""


@torch.inference_mode()
def read_out(prediction: Prediction, chosen: Sequence[int], top: int) -> list[ReadOut]:
    """Predictions of n tokens and the ids of those tokens (n) → what is said of each.

    top: how many most probable tokens are wanted.
    """
    logprobs, best, best_ids = prediction.logprobs, prediction.top_logprobs, prediction.top_ids
    if top > best.size(-1):
        best, best_ids = logprobs.topk(min(top, logprobs.size(-1)), dim=-1)
    best_logprobs, ids = best.tolist(), best_ids.tolist()
    logprob: list[float] = [0.0] * len(chosen)
    rank = [0] * len(chosen)
    others = []  # rows whose token is not among the best, so that the whole vocabulary is searched
    for row, token_id in enumerate(chosen):
        if token_id in ids[row]:
            logprob[row] = best_logprobs[row][ids[row].index(token_id)]
            rank[row] = best_logprobs[row].index(logprob[row]) + 1
        else:
            others.append(row)
    if others:
        searched = logprobs if len(others) == len(chosen) else logprobs[others]  # (m, V)
        wanted = torch.tensor([chosen[row] for row in others], device=logprobs.device)
        own = searched.gather(-1, wanted[:, None])  # (m, 1)
        ranks = (searched > own).sum(-1) + 1  # (m)
        for row, value, place in zip(others, own[:, 0].tolist(), ranks.tolist(), strict=True):
            logprob[row], rank[row] = value, place
    top_ids, top_logprobs = ([row[:top] for row in each] for each in (ids, best_logprobs))
    entropy = prediction.entropy.tolist()
    rows = zip(logprob, rank, entropy, top_ids, top_logprobs, strict=True)
    return [ReadOut(*row) for row in rows]
