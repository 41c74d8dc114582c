"""What the network says of the next token, in one pass over the logits; it knows no settings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gpt.errors import UserError

TOP = 128
"""Most probable tokens that are looked up with every prediction, where there are so many."""
_STRETCH = 64
"""Neighbours in the vocabulary among which only the best one is looked at first."""


class NonFiniteLogitsError(UserError):
    """The network produced NaN or infinity, so there is no distribution."""


class Prediction(NamedTuple):
    """The model's own distributions, at temperature 1, of n next tokens; all float32 but ids."""

    logits: Tensor
    """(n, V)."""
    logprobs: Tensor
    """(n, V) natural logarithms."""
    entropy: Tensor
    """(n) nats."""
    total: Tensor
    """(n) sums of the logits, which are finite where all of them are."""
    top_logprobs: Tensor
    """(n, TOP or V) of the most probable tokens, best first."""
    top_ids: Tensor
    """(n, TOP or V) their ids."""


def predict(logits: Tensor) -> Prediction:
    """Logits (n, V) of any float dtype → what they say."""
    logits = logits.float()
    logprobs = logits.log_softmax(-1)
    return Prediction(logits, logprobs, _entropy(logprobs), logits.sum(-1), *_best(logprobs))


def predict_in_order(logits: Tensor) -> tuple[Prediction, Tensor]:
    """Logits (1, V) → what `predict` says, and all ids (V), those of the highest logits first.

    Of equal logits, the lowest id comes first. A GPU sorts everything in the time that it takes
    to look the best ones up.
    """
    logits = logits.float()
    order = logits[0].sort(descending=True, stable=True).indices
    logprobs = logits.log_softmax(-1)
    best = order[:TOP]
    top = logprobs.index_select(-1, best)
    return Prediction(logits, logprobs, _entropy(logprobs), logits.sum(-1), top, best[None]), order


def _entropy(logprobs: Tensor) -> Tensor:
    """(n, V) → (n) nats. 0 log 0 is 0, also where the logarithm is infinite."""
    return -(logprobs.exp() * logprobs.clamp_min(-1e9)).sum(-1)


def _best(logprobs: Tensor) -> tuple[Tensor, Tensor]:
    """(n, V) → the TOP or V highest of each row, best first, and their ids.

    In a large vocabulary, they are looked for in the TOP stretches whose own best token is
    highest: a stretch that has one of them ranks above all that have none.
    """
    n, V = logprobs.shape
    if V <= TOP * _STRETCH:
        values, ids = logprobs.topk(min(TOP, V), dim=-1)
        return values, ids
    ids = torch.arange(V, device=logprobs.device)
    whole = V - V % _STRETCH
    stretches = logprobs[:, :whole].view(n, -1, _STRETCH)
    places = stretches.amax(-1).topk(TOP, sorted=False).indices  # (n, TOP)
    places = places[..., None].expand(-1, -1, _STRETCH)
    among = [stretches.gather(1, places).flatten(1), logprobs[:, whole:]]  # and the last few
    their_ids = [(places * _STRETCH + ids[:_STRETCH]).flatten(1), ids[whole:].expand(n, -1)]
    values, found = torch.cat(among, dim=-1).topk(TOP, dim=-1)
    return values, torch.cat(their_ids, dim=-1).gather(-1, found)


def check_finite(total: float, position: int) -> None:
    """Raise NonFiniteLogitsError where logits are not, by their sum.

    position: of the token that they should give.
    """
    if not math.isfinite(total):
        raise NonFiniteLogitsError(
            f"the network's logits for the token at position {position} are not finite; "
            "its weights are damaged or the dtype overflows (try --dtype float32)"
        )


@dataclass(frozen=True)
class ReadOut:
    """What a distribution says of a token, and its most probable tokens."""

    logprob: float
    rank: int
    entropy: float
    top_ids: list[int]
    top_logprobs: list[float]


@torch.inference_mode()
def read_out(prediction: Prediction, chosen: Sequence[int], top: int) -> list[ReadOut]:
    """Predictions of n tokens and the ids that stand there (n) → what they say of each."""
    logprobs, best, best_ids = prediction.logprobs, prediction.top_logprobs, prediction.top_ids
    if top > best.size(-1):
        best, best_ids = logprobs.topk(min(top, logprobs.size(-1)), dim=-1)
    values, ids = best[:, :top].tolist(), best_ids[:, :top].tolist()
    # A token among the best needs no look at the others.
    own: list[Any] = [
        row[its.index(i)] if i in its else None
        for i, row, its in zip(chosen, values, ids, strict=True)
    ]
    rank = [0 if p is None else row.index(p) + 1 for p, row in zip(own, values, strict=True)]
    if far := [row for row, logprob in enumerate(own) if logprob is None]:
        among = logprobs if len(far) == len(own) else logprobs[far]
        where = torch.tensor([chosen[row] for row in far], device=logprobs.device)
        theirs = among.gather(-1, where[:, None])  # (far, 1)
        better = (among > theirs).sum(-1)
        for row, logprob, count in zip(far, theirs[:, 0].tolist(), better.tolist(), strict=True):
            own[row], rank[row] = logprob, count + 1
    entropy = prediction.entropy.tolist()
    return [ReadOut(own[n], rank[n], entropy[n], ids[n], values[n]) for n in range(len(chosen))]
