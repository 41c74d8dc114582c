"""Which earlier tokens a prediction is due to, by three measures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gpt.context import Context
from gpt.errors import UserError
from gpt.interpret.effects import Mattered
from gpt.interpret.gradient import gradient_times_input
from gpt.interpret.hooks import hooked
from gpt.interpret.lens import attribution
from gpt.prediction import check_finite
from gpt.progress import NOBODY, Watcher

MEASURES = ("left out", "cut", "gradient")
"""Names of the measures: leave the token out, cut attention to it, gradient × input."""
_AT_ONCE = 8
"""Edges that are cut in one batch; each needs a copy of the keys and values."""


def mattered(
    context: Context,
    ids: Sequence[int],
    chosen: int,
    *,
    last: int = 64,
    measures: Sequence[str] = MEASURES,
    watcher: Watcher = NOBODY,
) -> Mattered:
    """What each of the last tokens of ids did for log p(chosen), the next token, in nats.

    left out: `gpt.interpret.lens.attribution`. cut: `cut_edges`. gradient:
    `gpt.interpret.gradient.gradient_times_input`. A measure that is not asked for is None
    everywhere. None also for tokens before the last `last` ones and outside the context.
    """
    if not ids:
        raise UserError("the first token has no context, so no token contributes to it")
    if unknown := [name for name in measures if name not in MEASURES]:
        raise UserError(f"there is no measure {unknown[0]!r}; use {', '.join(MEASURES)}")
    context.check_ids([*ids, chosen])
    nothing: list[float | None] = [None] * len(ids)
    found = dict.fromkeys(MEASURES, nothing)
    if "left out" in measures:
        found["left out"] = attribution(context, ids, chosen, last=last, watcher=watcher)
    if "cut" in measures and not watcher.cancelled():
        found["cut"] = cut_edges(context, ids, chosen, last=last, watcher=watcher)
    if "gradient" in measures and not watcher.cancelled():
        products = gradient_times_input(context, ids, chosen)
        kept = max(0, len(ids) - last)
        found["gradient"] = [*nothing[:kept], *products[kept:]]
    return Mattered(tuple(found["left out"]), tuple(found["cut"]), tuple(found["gradient"]))


@torch.inference_mode()
def cut_edges(
    context: Context,
    ids: Sequence[int],
    chosen: int,
    *,
    last: int = 64,
    watcher: Watcher = NOBODY,
) -> list[float | None]:
    """log p(chosen) − log p(chosen) if the last token of ids does not attend to one earlier token.

    In all layers and heads the score of that token becomes −∞ for the last position only, so that
    what other tokens have read from it stays (attention knock-out, Geva et al. 2023,
    arXiv:2304.14767). In nats; None for the last token, for tokens before the last `last` ones, for
    those outside the context, and for the rest after a cancellation.
    """
    context.check_ids([*ids, chosen])
    model, start = context.model, context.window_start(len(ids))
    window = list(ids[start:])
    context.read(window, watcher)
    nats: list[float | None] = [None] * len(ids)
    if len(context.ids) < len(window):
        return nats
    before = context.fork(len(window) - 1)
    without: list[int] = []

    def mask(layer: int, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        sees = torch.ones(len(without), 1, 1, k.size(2), dtype=torch.bool, device=q.device)
        for row, source in enumerate(without):
            if source >= 0:
                sees[row, :, :, source] = False
        return sees if mask is None else sees & mask  # (B, 1 or heads, 1 or queries, S)

    def logprobs() -> list[float]:
        """log p(chosen) for each source in `without`, which loses its edge; -1: none is lost."""
        n = len(without)
        last_ids = torch.tensor([window[-1:]] * n, device=model.wte.weight.device)  # (B, 1)
        with hooked(model, {}, mask=mask):
            hidden = model.hidden(last_ids, before.copy(before.length, [0] * n))[:, -1]  # (B, E)
        logits = context.raw_logits(hidden)  # (B, V)
        check_finite(float(logits.sum()), len(ids))
        return logits.log_softmax(-1)[:, chosen].tolist()

    without = [-1]
    (with_all,) = logprobs()
    sources = range(max(0, len(window) - last), len(window) - 1)
    for done in range(0, len(sources), _AT_ONCE):
        without = list(sources[done : done + _AT_ONCE])
        watcher.tell(f"without the edge from token {start + without[0]} of {len(ids)}")
        if watcher.cancelled():
            break
        for source, logprob in zip(without, logprobs(), strict=True):
            nats[start + source] = with_all - logprob
    return nats
