"""Put the residual stream of another text into a text, at one place after another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from gpt.context import Context
from gpt.errors import UserError
from gpt.interpret.effects import PatchGrid
from gpt.interpret.hooks import continue_from, hooked
from gpt.model import GPT
from gpt.prediction import check_finite
from gpt.progress import NOBODY, Watcher

LONGEST = 512
"""Most tokens of a text: the cost of a grid grows with their square."""
_AT_ONCE = 8
"""Positions whose patched texts the network reads as one batch."""
_SAME = 1e-6
"""Two differences of logits are the same if they are closer than this."""


@torch.inference_mode()
def patch_grid(
    context: Context,
    ids: Sequence[int],
    other: Sequence[int],
    token_id: int,
    versus_id: int,
    *,
    positions: Sequence[int] | None = None,
    watcher: Watcher = NOBODY,
) -> PatchGrid:
    """How far each activation of another text alone moves a difference of two logits.

    For each layer (0: the embedding) and position, the residual stream of the text is replaced
    there by that of the other text, and the network computes the rest: activation patching, or
    causal tracing (Vig et al. 2020, arXiv:2004.12265; Meng et al. 2022, arXiv:2202.05262). The
    difference is the logit of token_id − that of versus_id after the text.

    Both texts must have the same number of tokens, at most LONGEST. What is before a position is
    computed once. If it was cancelled, the rest of the layers is missing.

    positions: the columns; None: all.
    """
    _check(context, ids, other, [token_id, versus_id])
    columns = list(range(len(ids))) if positions is None else sorted(set(positions))
    if bad := [p for p in columns if not 0 <= p < len(ids)]:
        raise UserError(f"there is no token {bad[0]}; the text has 0 to {len(ids) - 1}")

    def difference(hidden: Tensor) -> Tensor:
        logits = context.raw_logits(hidden)  # (…, V)
        check_finite(float(logits.sum()), len(ids))
        return logits[..., token_id] - logits[..., versus_id]

    there_hidden, there = _all_streams(context.model, other)
    here_hidden, here = _all_streams(context.model, ids)
    # Several states at once, as below: those of one would be rounded in another way.
    ends = difference(torch.stack((here_hidden[-1], there_hidden[-1]))).tolist()
    context.read(ids)
    rows: list[tuple[float, ...]] = []
    for layer in range(context.config.n_layer + 1):
        row: list[float] = []
        differs = (here[layer] != there[layer]).any(-1).tolist()  # (T)
        for first in range(0, len(columns), _AT_ONCE):
            watcher.tell(f"layer {layer} of {context.config.n_layer}")
            if watcher.cancelled():
                break
            part = columns[first : first + _AT_ONCE]
            singles = [[position] for position in part]
            if not any(differs[position] for position in part):
                row += [ends[0]] * len(part)
                continue
            hidden = _patched(context, here[layer], there[layer], layer, singles)
            found = difference(hidden[:, -1]).tolist()
            # What is the same in both texts moves nothing, not even by rounding.
            row += [d if differs[p] else ends[0] for d, p in zip(found, part, strict=True)]
        if len(row) < len(columns):
            break
        rows.append(tuple(row))
    return PatchGrid(
        token_id=token_id,
        versus_id=versus_id,
        here=ends[0],
        there=ends[1],
        layers=tuple(range(len(rows))),
        positions=tuple(columns),
        difference=tuple(rows),
        share=_shares(rows, *ends),
    )


@torch.inference_mode()
def patched(
    context: Context,
    ids: Sequence[int],
    other: Sequence[int],
    layer: int,
    positions: Iterable[int],
) -> Tensor:
    """Logits (V) after a text whose residual stream after a layer is that of another text at some
    positions."""
    _check(context, ids, other, [])
    if not 0 <= layer <= context.config.n_layer:
        raise UserError(
            f"there is no layer {layer}; this model has 0 (the embedding) to "
            f"{context.config.n_layer}"
        )
    _, here = _all_streams(context.model, ids)
    _, there = _all_streams(context.model, other)
    context.read(ids)
    where = sorted(positions) or [len(ids)]
    hidden = _patched(context, here[layer], there[layer], layer, [where])
    return context.raw_logits(hidden[0, -1])


def _check(
    context: Context, ids: Sequence[int], other: Sequence[int], candidates: list[int]
) -> None:
    if not ids or len(ids) != len(other):
        raise UserError(
            f"patching needs two texts with the same number of tokens, at least one; "
            f"these have {len(ids)} and {len(other)}"
        )
    longest = min(LONGEST, context.config.block_size)
    if len(ids) > longest:
        raise UserError(f"patching needs texts of at most {longest} tokens, not {len(ids)}")
    context.check_ids([*ids, *other, *candidates])


def _all_streams(model: GPT, ids: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """Hidden states (T, E), and the residual stream (T, C) after the embedding and each layer."""
    streams: list[Tensor] = []

    def record(layer: int, x: Tensor) -> None:
        streams.append(x[0])

    with hooked(model, {"embedding": record, "layer": record}):
        all_ids = torch.tensor([list(ids)], device=model.wte.weight.device)  # (1, T)
        hidden = model.hidden(all_ids, model.new_cache())[0]
    return hidden, streams


def _patched(
    context: Context, here: Tensor, there: Tensor, layer: int, batch: Sequence[Sequence[int]]
) -> Tensor:
    """Hidden states (B, n, E) of the last n tokens of a text, patched at some positions.

    here, there: streams (T, C) after a layer. batch: for each copy of the text, the positions that
    come from `there`, in order. Keys and values before the first of them are the text's own.
    """
    T = len(here)
    first = min(T - 1, *(positions[0] for positions in batch))
    cache = context.cache.copy(first, [0] * len(batch))
    if context.config.n_layer:
        cache.memory(T)
    x = here[first:].repeat(len(batch), 1, 1)  # (B, T - first, C)
    for row, positions in enumerate(batch):
        for position in positions:
            if position < T:
                x[row, position - first] = there[position]
    return continue_from(context.model, layer, x, cache)


def _shares(
    rows: Sequence[tuple[float, ...]], here: float, there: float
) -> tuple[tuple[float, ...], ...] | None:
    if abs(there - here) < _SAME:
        return None
    return tuple(tuple((each - here) / (there - here) for each in row) for row in rows)
