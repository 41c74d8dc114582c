"""What sampling settings make of the candidates that a server names, without torch.

The other tokens are one entry, the rest. Only its probability is known, and that none of its tokens
is more probable than the last candidate. So a stage that removes the last candidate removes the
rest as well, and then the result is exact. Otherwise the rest stays unresolved: a temperature acts
on it as if its tokens were equally probable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from gpt.interpret.answers import Row, Waterfall
from gpt.remote.server import Piece, Reading, Top
from gpt.remote.words import banned_after, boosts_after
from gpt.settings import Sampling

_NEVER = -math.inf
_FAR = 1e6
"""Nats below another token that make a probability 0 in floats."""
_LARGEST_VOCABULARY = 1 << 20
"""Tokens that a vocabulary of unknown size has at most."""


@dataclass(frozen=True)
class Odds:
    """A distribution of the candidates and the rest. Its probabilities need not sum to 1."""

    logprobs: dict[int, float]
    """Candidate → log-probability in nats; minus infinity if it was removed."""
    rest: float
    """Log-probability of all other tokens together."""
    n_rest: int
    """Number of the other tokens; 0 if they were removed or there are none."""
    ceiling: float = 0.0
    """Log-probability that none of the other tokens exceeds."""
    taken_as: Literal["even", "least", "most"] = "even"
    """What is assumed of the other tokens: that they are equally probable, or whatever leaves them
    the least or the most probability. The truth is between these two."""

    @property
    def is_resolved(self) -> bool:
        """Whether no other token can be drawn."""
        return self.rest == _NEVER

    @property
    def n_left(self) -> int:
        """Number of tokens that can be drawn."""
        return sum(value > _NEVER for value in self.logprobs.values()) + self.n_rest

    def total(self) -> float:
        """Log of the sum of all probabilities; 0 if no token can be drawn."""
        values = [*self.logprobs.values(), self.rest]
        highest = max(values)
        if highest == _NEVER:
            return 0.0
        return highest + math.log(math.fsum([math.exp(value - highest) for value in values]))

    def normalised(self) -> Odds:
        """The same with probabilities that sum to 1."""
        total = self.total()
        kept = {i: value - total for i, value in self.logprobs.items()}
        return replace(self, logprobs=kept, rest=self.rest - total, ceiling=self.ceiling - total)

    def keeping(self, kept: set[int], *, keeps_rest: bool) -> Odds:
        """Only these candidates, and perhaps the rest."""
        logprobs = {i: v if i in kept else _NEVER for i, v in self.logprobs.items()}
        return replace(self, logprobs=logprobs) if keeps_rest else Odds(logprobs, _NEVER, 0)

    def far(self) -> Odds:
        """The same, where the other tokens have so little that it does not count."""
        return replace(self, rest=max(self.logprobs.values()) - _FAR)

    def alive(self, total: float = 0.0) -> dict[int, float]:
        """The candidates that can be drawn, with their log-probabilities; less total."""
        return {i: value - total for i, value in self.logprobs.items() if value > _NEVER}

    def best_first(self) -> list[int]:
        """The candidates that can be drawn."""
        return sorted(self.alive(), key=self.logprobs.__getitem__, reverse=True)

    def surely_best(self) -> list[int]:
        """Those of them that no other token exceeds: a negative boost may put one too low."""
        best = self.best_first()
        if self.is_resolved:
            return best
        return [i for i in best if self.logprobs[i] >= self.ceiling]


def model_odds(top: Top, vocab_size: int) -> Odds:
    """The model's own distribution. vocab_size: 0 if it is not known."""
    n_rest = max(vocab_size - len(top), 0) if vocab_size else 1
    mass = math.fsum([math.exp(logprob) for _, logprob in top]) if n_rest else 1.0
    rest = math.log(1 - mass) if mass < 1 else _NEVER
    last = top[-1][1] if top else 0.0
    return Odds(dict(top), rest, n_rest if rest > _NEVER else 0, last)


def _banned(odds: Odds, sampling: Sampling, path: Sequence[int]) -> Odds:
    banned = banned_after(path, sampling)
    removed = banned & odds.logprobs.keys()
    n_others = len(banned) - len(removed)
    logprobs = odds.logprobs | dict.fromkeys(removed, _NEVER)
    if odds.is_resolved or not n_others or odds.taken_as != "least":
        return replace(odds, logprobs=logprobs)
    share = n_others * math.exp(odds.ceiling - odds.rest)  # as probable as they can be
    lost = math.log1p(-share) if share < 1 else -_FAR
    return replace(odds, logprobs=logprobs, rest=odds.rest + lost)


def _boosted(odds: Odds, sampling: Sampling, path: Sequence[int]) -> Odds:
    logprobs = dict(odds.logprobs)
    for token_id, nats in boosts_after(path, sampling).items():
        if token_id in logprobs:
            logprobs[token_id] += nats
    return replace(odds, logprobs=logprobs)


def _temperature(odds: Odds, sampling: Sampling, path: Sequence[int]) -> Odds:
    temperature = sampling.temperature
    if temperature == 0:
        best = odds.surely_best()[:1]
        return odds.keeping(set(best), keeps_rest=False) if best else odds
    each = math.log(odds.n_rest) if odds.n_rest else 0.0
    even = each + (odds.rest - each) / temperature
    few = odds.rest + (1 / temperature - 1) * odds.ceiling  # as few tokens as it can be
    rest = {"even": even, "least": min(even, few), "most": max(even, few)}[odds.taken_as]
    return replace(
        odds,
        logprobs={i: v / temperature for i, v in odds.logprobs.items()},
        rest=rest,
        ceiling=odds.ceiling / temperature,
    )


def _top_k(odds: Odds, sampling: Sampling, path: Sequence[int]) -> Odds:
    best = odds.surely_best()
    n = sampling.top_k - len(best)
    if n <= 0:
        return odds.keeping(set(best[: sampling.top_k]), keeps_rest=False)
    if n >= odds.n_left - len(best):
        return odds
    if len(best) < odds.n_left - odds.n_rest:  # which of the candidates are among the best?
        return odds if odds.taken_as != "least" else odds.keeping(set(best), keeps_rest=True).far()
    # The best n of the others have at least their even share.
    share = 0.0 if odds.taken_as == "most" else math.log(n / odds.n_rest)
    return replace(odds, rest=odds.rest + share, n_rest=n)


def _top_p(odds: Odds, sampling: Sampling, path: Sequence[int]) -> Odds:
    odds, kept, mass = odds.normalised(), set[int](), 0.0
    for token_id in odds.surely_best():
        if kept and mass >= sampling.top_p:
            return odds.keeping(kept, keeps_rest=False)
        kept.add(token_id)
        mass += math.exp(odds.logprobs[token_id])
    return odds.keeping(kept, keeps_rest=False) if kept and mass >= sampling.top_p else odds


def _min_p(odds: Odds, sampling: Sampling, path: Sequence[int]) -> Odds:
    best = odds.surely_best()
    if not best or sampling.min_p == 0:
        return odds
    least = odds.logprobs[best[0]] + math.log(sampling.min_p)
    kept = {i for i, value in odds.logprobs.items() if value >= least}
    found = odds.keeping(kept, keeps_rest=odds.ceiling >= least and not odds.is_resolved)
    # Perhaps all others were removed.
    return found if found.is_resolved or found.taken_as != "least" else found.far()


_STAGES: dict[str, Callable[[Odds, Sampling, Sequence[int]], Odds]] = {
    "banned": _banned,
    "boosted": _boosted,
    "temperature": _temperature,
    "top_k": _top_k,
    "top_p": _top_p,
    "min_p": _min_p,
}
"""The settings that can be computed from candidates. The others need logits or all tokens."""
_ORDERED = {"temperature", "top_k", "top_p", "min_p"}
"""Stages of which two give another result the other way round."""
_CUTS = {"top_k", "top_p", "min_p"}
"""Stages that remove tokens from the worst on."""
_USUAL_CUT, _LARGEST_CUT = 40, 100
"""Candidates from which a cut is computed: of a top-p, and at most."""


@dataclass(frozen=True)
class Plan:
    """What of some settings can be computed from candidates."""

    sampling: Sampling
    stages: tuple[str, ...]
    """Names of the stages that can be, in the order in which the server applies them."""
    left_out: tuple[str, ...]
    """Names of the settings that act and that cannot be."""

    @property
    def candidates(self) -> int:
        """Candidates that often say exactly which tokens these settings leave; 0 if more of them
        say no more. docs/servers.md has what they cost."""
        if self.left_out or self.sampling.temperature == 0 or _CUTS.isdisjoint(self.stages):
            return 0
        n_banned = len(self.sampling.banned)
        return min(max(self.sampling.top_k + n_banned, _USUAL_CUT), _LARGEST_CUT)


def plan(sampling: Sampling, order: tuple[str, ...] | None) -> Plan:
    """order: of the stages at the server, as Server.order."""
    stages = replace(sampling, order=order or sampling.order).stages
    left_out = [name for name in stages if name not in _STAGES]
    ordered = [name for name in stages if name in _ORDERED]
    if order is None and len(ordered) > 1 and sampling.temperature > 0:
        left_out += ordered
    left_out += ["dynatemp_range"] * ("dynatemp_range" in sampling.active)
    kept = tuple(name for name in stages if name not in left_out)
    return Plan(sampling, kept, tuple(left_out))


def stages_of(odds: Odds, plan: Plan, path: Sequence[int]) -> list[tuple[str, Odds]]:
    """The distribution after each stage, with its name; "model" is first.

    path: the ids before.
    """
    found = [("model", odds)]
    for name in plan.stages:
        found.append((name, _STAGES[name](found[-1][1], plan.sampling, path)))
    return [(name, stage.normalised()) for name, stage in found]


def _last_of(odds: Odds, plan: Plan, path: Sequence[int]) -> Odds:
    """The distribution after the last stage, whose probabilities need not sum to 1."""
    for name in plan.stages:
        odds = _STAGES[name](odds, plan.sampling, path)
    return odds


def after_settings(
    reading: Reading, vocab_size: int, plan: Plan, path: Sequence[int]
) -> dict[int, float]:
    """Token → log-probability after all settings; empty if the candidates do not determine it.

    path: the ids before.
    """
    if not plan.stages and not plan.left_out:
        own = {} if reading.logprob is None else {reading.token_id: reading.logprob}
        return own | dict(reading.top)
    if not reading.top or plan.left_out:
        return {}
    odds = model_odds(reading.top, vocab_size or _LARGEST_VOCABULARY)
    boosted = boosts_after(path, plan.sampling).keys()
    if not odds.is_resolved and not odds.logprobs.keys() >= boosted:
        return {}  # a boosted token may be one of the others
    least = _last_of(replace(odds, taken_as="least"), plan, path)
    found = least.alive(least.total())
    if odds.is_resolved:
        return found
    most = _last_of(replace(odds, taken_as="most"), plan, path)
    is_exact = least.is_resolved and most.is_resolved and found.keys() == most.alive().keys()
    return found if is_exact else {}


def waterfall(
    stages: Sequence[tuple[str, Odds]],
    pieces: dict[int, Piece],
    shown: Sequence[int],
    position: int,
    drawn: int,
) -> Waterfall:
    """The record of the stages, with a row for each of the tokens in shown."""
    rows = []
    for token_id in shown:
        values = [odds.logprobs.get(token_id, _NEVER) for _, odds in stages]
        gone = (
            name
            for (name, _), value in zip(stages, values, strict=True)
            if value == _NEVER and token_id in stages[0][1].logprobs
        )
        probabilities = tuple(map(math.exp, values))
        rows.append(Row(token_id, pieces[token_id].bytes, probabilities, next(gone, None)))
    others = [
        math.exp(odds.rest)
        + math.fsum(math.exp(v) for i, v in odds.logprobs.items() if i not in shown)
        for _, odds in stages
    ]
    model = stages[0][1]
    return Waterfall(
        position=position,
        stages=tuple(name for name, _ in stages),
        rows=tuple(rows),
        n_rest=sum(i not in shown for i in model.logprobs) + model.n_rest,
        rest=tuple(others),
        left=tuple(odds.n_left for _, odds in stages),
        drawn=drawn,
    )
