"""What settings do to a distribution, and which continuations are likely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.context import Context, Continuations
from gpt.errors import UserError
from gpt.interpret.answers import LikelyPath, Row, Waterfall
from gpt.interpret.intervene import intervened
from gpt.interventions import Intervention
from gpt.prediction import check_finite
from gpt.progress import NOBODY, Watcher
from gpt.sampling import Stage, distribution, draw
from gpt.settings import Sampling


@torch.inference_mode()
def waterfall(
    context: Context,
    ids: Sequence[int],
    sampling: Sampling,
    *,
    chosen: int | None = None,
    top: int = 10,
    also: Sequence[int] = (),
    interventions: Sequence[Intervention] = (),
) -> Waterfall:
    """How the settings change the distribution of the token after ids, stage by stage.

    chosen: the token at this position in the text, which always gets a row; also: others that do.
    If ids were read before, this costs a product with the output matrix and does not run the
    network.

    interventions: what is changed inside the network; if there are any, "interventions" is the
    stage after "model", which is the network as it is.
    """
    if not ids:
        raise UserError("the first token has no context, so it has no distribution")
    context.check_ids([*ids, *also] if chosen is None else [*ids, *also, chosen])
    position = len(ids)
    breakers = context.breakers if "dry_multiplier" in sampling.active else frozenset[int]()
    with intervened(context, interventions, ids) as changed:
        stages = distribution(_logits(changed, ids), sampling, ids, breakers)
    if interventions:
        own = distribution(_logits(context, ids), Sampling(), ids)[0]
        changed_stage = Stage("interventions", stages[0].logprobs, own.logprobs)
        stages = [own, changed_stage, *stages[1:]]
    first, final = stages[0].logprobs, stages[-1].logprobs
    n = min(top, len(first))
    drawn = draw(final, sampling.seed, position)
    wanted = first.topk(n).indices.tolist()
    wanted += [i for i in final.topk(n).indices.tolist() if final[i].isfinite()]
    wanted += [*also, drawn] if chosen is None else [*also, chosen, drawn]
    shown = list(dict.fromkeys(wanted))
    probabilities = torch.stack([stage.logprobs for stage in stages]).exp()  # (stages, V)
    removed = torch.stack([stage.removed for stage in stages])[:, shown]  # (stages, shown)
    names = [stage.name for stage in stages]
    removed_by = [
        next((name for name, is_removed in zip(names, column, strict=True) if is_removed), None)
        for column in removed.T.tolist()
    ]
    columns = zip(shown, probabilities[:, shown].T.tolist(), removed_by, strict=True)
    bytes_of = context.tokenizer.token_bytes
    rows = tuple(Row(i, bytes_of(i), tuple(column), stage) for i, column, stage in columns)
    others = torch.ones(len(first), dtype=torch.bool, device=first.device)
    others[shown] = False
    return Waterfall(
        position=position,
        stages=tuple(names),
        rows=rows,
        n_rest=int(others.sum()),
        rest=tuple((probabilities * others).sum(-1).tolist()),
        left=tuple((probabilities > 0).sum(-1).tolist()),
        drawn=drawn,
    )


def _logits(context: Context, ids: Sequence[int]) -> Tensor:
    """The logits (V) of the token after ids, rounded as for drawing it."""
    hidden = context.read(ids[context.window_start(len(ids)) :])
    prediction = context.predict(hidden[-1])
    check_finite(float(prediction.total), len(ids))
    return prediction.logits[0]


@dataclass
class _Beam:
    """The start of a continuation."""

    ids: list[int]
    logprobs: list[float]

    @property
    def total(self) -> float:
        return sum(self.logprobs)


@torch.inference_mode()
def likely_paths(
    context: Context,
    ids: Sequence[int],
    *,
    width: int = 8,
    depth: int = 8,
    watcher: Watcher = NOBODY,
) -> list[LikelyPath]:
    """The `width` most probable continuations of ids that a beam search finds, best first.

    Each has `depth` tokens, or fewer if the model ends the text or the context is full. Beam search
    keeps the best `width` continuations at every length (Lowerre 1976), so it can miss one that
    starts with improbable tokens.
    """
    config = context.config
    if not ids:
        raise UserError("the first token has no context, so it has no distribution")
    context.check_ids(ids)
    start = context.window_start(len(ids))
    hidden = context.read(ids[start:])
    depth = min(depth, config.block_size - (len(ids) - start) + 1)
    continuations = Continuations(context, len(hidden))
    prediction = context.predict(hidden[-1])  # of one beam
    check_finite(float(prediction.total), len(ids))
    alive, ended = [_Beam([], [])], list[_Beam]()
    for length in range(1, depth + 1):
        watcher.tell(f"length {length} of {depth} tokens")
        logprobs = prediction.logprobs  # (beams, V)
        so_far = torch.tensor([beam.total for beam in alive], device=logprobs.device)  # (beams)
        totals = (so_far[:, None] + logprobs).flatten()  # (beams · V)
        best = totals.topk(min(width, len(totals))).indices.tolist()
        rows_and_ids = [divmod(index, config.vocab_size) for index in best]
        grown = [
            _Beam([*alive[row].ids, i], [*alive[row].logprobs, float(logprobs[row, i])])
            for row, i in rows_and_ids
        ]
        ended += [beam for beam in grown if beam.ids[-1] in context.ends]
        rows = [row for row, i in rows_and_ids if i not in context.ends]
        alive = [beam for beam in grown if beam.ids[-1] not in context.ends]
        if length == depth or not alive or watcher.cancelled():
            break
        states = continuations.read(rows, [[beam.ids[-1]] for beam in alive])  # (1, E) each
        prediction = context.predict(*(each[-1] for each in states))
    found = sorted([*alive, *ended], key=lambda beam: -beam.total)[:width]
    bytes_of = context.tokenizer.token_bytes
    return [LikelyPath(tuple(b.ids), tuple(map(bytes_of, b.ids)), tuple(b.logprobs)) for b in found]
