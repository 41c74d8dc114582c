"""Questions about one position of a text, answered from the hidden states that are kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gpt.checkpoint import Checkpoint
from gpt.errors import UserError
from gpt.generate import Context, check_ids, raw_logits, window_start
from gpt.sampling import check_finite, distribution, draw
from gpt.settings import Sampling
from gpt.waterfall import Row, Waterfall


@torch.inference_mode()
def waterfall(
    checkpoint: Checkpoint,
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
    check_ids(checkpoint, ids if chosen is None else [*ids, chosen])
    position = len(ids)
    hidden = context.read(ids[window_start(position, checkpoint.model.config.block_size) :])
    logits = raw_logits(checkpoint.model, hidden[-1])  # (V)
    check_finite(logits, position)
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
            checkpoint.tokenizer.token_bytes(token_id),
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
