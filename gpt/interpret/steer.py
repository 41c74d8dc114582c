"""Directions in the residual stream: the difference between two sets of texts."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gpt.context import Context
from gpt.errors import UserError
from gpt.interpret.effects import Steering
from gpt.interpret.hooks import hooked
from gpt.interventions import Steer, check
from gpt.model import GPT
from gpt.progress import NOBODY, Watcher

_KEPT = 32
"""Directions that are remembered for a network."""
_Key = tuple[int, tuple[str, ...], tuple[str, ...], str]
_DIRECTIONS: WeakKeyDictionary[GPT, dict[_Key, Tensor]] = WeakKeyDictionary()


@torch.inference_mode()
def direction(context: Context, steer: Steer, watcher: Watcher = NOBODY) -> Tensor:
    """The direction (C) float32 of a record, not yet multiplied by its strength.

    mean over `towards` of the residual stream after the layer − mean over `away` of it (Rimsky et
    al. 2024, arXiv:2312.06681). Each text is read alone, by the unchanged network. Zero if it was
    cancelled.
    """
    known = _DIRECTIONS.setdefault(context.model, {})
    key = steer.layer, steer.towards, steer.away, steer.over
    if key not in known:
        towards = _mean(context, steer, steer.towards, watcher)
        found = towards - _mean(context, steer, steer.away, watcher)
        if watcher.cancelled():
            return torch.zeros_like(found)
        while len(known) >= _KEPT:
            known.pop(next(iter(known)))
        known[key] = found
    return known[key]


def _mean(context: Context, steer: Steer, texts: Sequence[str], watcher: Watcher) -> Tensor:
    """The mean (C) over texts of the stream after a layer, at the last token or over all."""
    model = context.model
    total = torch.zeros(model.config.n_embd, device=model.wte.weight.device)
    for number, text in enumerate(texts, 1):
        watcher.tell(f"direction, text {number} of {len(texts)}")
        if watcher.cancelled():
            break
        streams = stream(context, _ids(context, text), steer.layer)  # (T, C)
        total += streams[-1] if steer.over == "last" else streams.mean(0)
    return total / len(texts)


def _ids(context: Context, text: str) -> list[int]:
    ids = context.encode(text)
    if not 1 <= len(ids) <= context.config.block_size:
        raise UserError(
            f"a text of a direction must have 1 to {context.config.block_size} tokens, "
            f"not {len(ids)}"
        )
    return ids


def stream(context: Context, ids: Sequence[int], layer: int) -> Tensor:
    """The residual stream (T, C) float32 after a layer; 0: after the embedding.

    The network is read from its beginning, with what is hooked into it.
    """
    model, seen = context.model, list[Tensor]()

    def record(number: int, x: Tensor) -> None:
        if number == layer:
            seen.append(x[0].float())

    with hooked(model, {"layer" if layer else "embedding": record}):
        all_ids = torch.tensor([list(ids)], device=model.wte.weight.device)  # (1, T)
        model.hidden(all_ids, model.new_cache())
    return seen[0]


@torch.inference_mode()
def steering(
    context: Context, ids: Sequence[int], steer: Steer, *, watcher: Watcher = NOBODY
) -> Steering:
    """How large what a direction adds is, compared with the stream that it is added to.

    ids: the text whose stream is measured; its last tokens if it is longer than the context.
    """
    if not ids:
        raise UserError("the text is empty; give at least one token")
    check((steer,), context.config, len(ids))
    context.check_ids(ids)
    found = direction(context, steer, watcher)
    norms = stream(context, ids[context.window_start(len(ids)) :], steer.layer).norm(dim=-1)
    return Steering(
        direction_norm=float(found.norm()),
        added_norm=abs(steer.strength) * float(found.norm()),
        stream_norm=float(norms.mean()),
        last_norm=float(norms[-1]),
    )
