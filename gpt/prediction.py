"""What the network says of the next token, in one pass over the logits; it knows no settings."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from gpt.errors import UserError

TOP = 128
"""Most probable tokens that are looked up with every prediction, where there are so many."""


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
    # 0 log 0 is 0, also where the logarithm is infinite.
    entropy = -(logprobs.exp() * logprobs.clamp_min(-1e9)).sum(-1)
    top = logprobs.topk(min(TOP, logits.size(-1)), dim=-1)
    return Prediction(logits, logprobs, entropy, logits.sum(-1), *top)


def check_finite(total: float, position: int) -> None:
    """Raise NonFiniteLogitsError where logits are not, by their sum.

    position: of the token that they should give.
    """
    if not math.isfinite(total):
        raise NonFiniteLogitsError(
            f"the network's logits for the token at position {position} are not finite; "
            "its weights are damaged or the dtype overflows (try --dtype float32)"
        )
