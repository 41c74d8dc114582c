"""Questions about one position of a text, answered from the hidden states that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gpt.context import Context
from gpt.errors import UserError
from gpt.interpret.answers import LikelyPath, Row, Waterfall
from gpt.prediction import check_finite
from gpt.progress import NOBODY, Watcher
from gpt.sampling import distribution, draw
from gpt.settings import Sampling


@torch.inference_mode()
def waterfall(
    context: Context,
    ids: Sequence[int],
    sampling: Sampling,
    *,
    chosen: int | None = None,
    top: int = 10,
) -> Waterfall:
    """What the settings make of the distribution behind ids, stage by stage.

    chosen: the token that stands there, which gets a row in any case. It costs a product with
    the output matrix and no pass of the network where ids were read before. Raises UserError
    where there are no ids.
    """
    if not ids:
        raise UserError("the first token has no context, and so no distribution")
    context.check_ids(ids if chosen is None else [*ids, chosen])
    position = len(ids)
    hidden = context.read(ids[context.window_start(position) :])
    logits = context.raw_logits(hidden[-1])  # (V)
    check_finite(float(logits.sum()), position)
    stages = distribution(logits, sampling, ids)
    first, final = stages[0].logprobs, stages[-1].logprobs
    n = min(top, len(first))
    drawn = draw(final, sampling.seed, position)
    wanted = first.topk(n).indices.tolist()
    wanted += [i for i in final.topk(n).indices.tolist() if final[i].isfinite()]
    wanted += [drawn] if chosen is None else [chosen, drawn]
    shown = list(dict.fromkeys(wanted))
    probabilities = torch.stack([stage.logprobs for stage in stages]).exp()  # (stages, V)
    removed = torch.stack([stage.removed for stage in stages])[:, shown]
    names = [stage.name for stage in stages]
    rows = tuple(
        Row(
            token_id,
            context.tokenizer.token_bytes(token_id),
            tuple(own),
            next((name for name, gone in zip(names, out, strict=True) if gone), None),
        )
        for token_id, own, out in zip(
            shown, probabilities[:, shown].T.tolist(), removed.T.tolist(), strict=True
        )
    )
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


@dataclass
class _Beam:
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
    """The most probable continuations of ids that a beam search finds, best first.

    Each has depth tokens, or fewer where the model ends its text or the context is full. A beam
    keeps the width best at every length (Lowerre 1976), so it may miss one whose beginning is
    improbable. Raises UserError where nothing can follow.
    """
    model, config = context.model, context.config
    if not ids:
        raise UserError("the first token has no context, and so nothing is likely yet")
    context.check_ids(ids)
    start = context.window_start(len(ids))
    hidden = context.read(ids[start:])
    depth = min(depth, config.block_size - (len(ids) - start) + 1)
    cache = context.fork(len(hidden))
    logits = context.raw_logits(hidden[-1])[None]  # (1, V)
    check_finite(float(logits.sum()), len(ids))
    alive, ended = [_Beam([], [])], list[_Beam]()
    for length in range(1, depth + 1):
        watcher.tell(f"length {length} of {depth} tokens")
        logprobs = logits.log_softmax(-1)  # (beams, V)
        so_far = torch.tensor([beam.total for beam in alive], device=logits.device)
        totals = (so_far[:, None] + logprobs).flatten()
        best = totals.topk(min(width, len(totals))).indices.tolist()
        places = [divmod(place, config.vocab_size) for place in best]
        grown = [
            _Beam([*alive[row].ids, i], [*alive[row].logprobs, float(logprobs[row, i])])
            for row, i in places
        ]
        ended += [beam for beam in grown if beam.ids[-1] in context.ends]
        rows = [row for row, i in places if i not in context.ends]
        alive = [beam for beam in grown if beam.ids[-1] not in context.ends]
        if length == depth or not alive or watcher.cancelled():
            break
        cache = cache.copies(cache.length, rows)
        last = torch.tensor([[beam.ids[-1]] for beam in alive], device=logits.device)
        logits = context.raw_logits(model.hidden(last, cache)[:, -1])
    found = sorted([*alive, *ended], key=lambda beam: -beam.total)[:width]
    bytes_of = context.tokenizer.token_bytes
    return [LikelyPath(tuple(b.ids), tuple(map(bytes_of, b.ids)), tuple(b.logprobs)) for b in found]
