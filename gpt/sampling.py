"""From logits to a distribution, stage by stage, and from a distribution to a token."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor

from gpt.errors import UserError
from gpt.noise import exponential
from gpt.settings import Sampling
from gpt.stages import STAGES, Prefix


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


def distribution(
    logits: Tensor,
    sampling: Sampling,
    path: Sequence[int],
    breakers: Collection[int] = frozenset(),
) -> list[Stage]:
    """The model's distribution, and the one after each setting.

    The first stage is the model's own distribution at temperature 1; a token is drawn from the
    last one. Settings with neutral values make no stage. The order is that of
    `Sampling.stages`. Settings that leave nothing to draw are refused.

    Args:
        logits: (V), all finite.
        path: ids of the text so far.
        breakers: ids at which DRY's repetitions end, from `breakers_of`.
    """
    logprobs = logits.float().log_softmax(-1)
    stages = [Stage("model", logprobs, logprobs)]
    scores = logits.float()
    prefix = Prefix(path, breakers)
    for name in sampling.stages:
        scores = STAGES[name](scores, sampling, prefix)
        if not scores.max().isfinite():
            raise UserError(f"{name} makes the scores overflow; bring it nearer to its default")
        stages.append(Stage(name, scores.log_softmax(-1), stages[-1].logprobs))
    return stages


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
