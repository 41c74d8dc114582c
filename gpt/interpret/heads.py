"""Where attention heads look, what kinds of heads they are, and the calculation of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.context import PREFILL, Context
from gpt.errors import UserError
from gpt.interpret.hooks import (
    attention_of,
    attention_scores,
    attention_weights,
    head_outputs,
    hooked,
    visible,
)
from gpt.interpret.looks import Heads, HeadScores, Token, Work, WorkRow
from gpt.progress import NOBODY, Watcher

_MOST_WEIGHTS = 1 << 24
"""Attention weights that are held at once; with very long texts fewer queries are read at once."""
_KINDS = ("previous", "first", "duplicate", "induction")
"""The kinds of heads that have scores, in the order of the fields of `HeadScores`."""


@torch.inference_mode()
def heads(
    context: Context, ids: Sequence[int], *, has_scores: bool = True, watcher: Watcher = NOBODY
) -> Heads:
    """The attention weights of all heads for the last token of ids, and each head's scores.

    With A the weights of a head over the context x₁ … xₙ, A[i, j] from query i to key j, the
    scores are means over queries i of:

    - previous: A[i, i − 1], over i ≥ 2
    - first: A[i, 1], over i ≥ 2
    - duplicate: Σ A[i, j] over j < i with xⱼ = xᵢ, over the i that have such a j
    - induction: Σ A[i, j] over j < i with xⱼ₋₁ = xᵢ, over the i that have such a j

    These are the patterns of Elhage et al. 2021 and Olsson et al. 2022 (arXiv:2209.11895), who
    measure induction on random tokens that repeat; here they are measured on the text given. It
    costs a pass over the context, without scores one token. The scores are those of the queries
    that were read before a cancellation.
    """
    start, window = _window(context, ids)
    first = 0 if has_scores else len(window) - 1
    if len(context.read(window[:first], context.reading(start, len(ids), watcher))) < first:
        return Heads(len(ids) - 1, start, (), (), 0)
    config, weights = context.config, dict[int, Tensor]()
    sums = _Sums(window, config.n_layer, config.n_head, context.model.wte.weight.device)
    cache = context.fork(first)
    n_rows = max(1, min(PREFILL, _MOST_WEIGHTS // (config.n_head * len(window))))

    def see(layer: int, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
        found = attention_weights(attention_of(context.model, layer), q, k, mask)  # (nh, T, S)
        weights[layer] = found[:, -1]
        if has_scores:
            sums.add(layer, found)

    with hooked(context.model, {}, view=see):
        for done in range(first, len(window), n_rows):
            watcher.tell(f"token {start + done} of {len(ids)}")
            if watcher.cancelled():
                break
            chunk = torch.tensor([window[done : done + n_rows]], device=sums.ids.device)
            context.model.hidden(chunk, cache)  # (1, T)
    return Heads(
        position=len(ids) - 1,
        start=start,
        weights=tuple(tuple(map(tuple, weights[n].tolist())) for n in sorted(weights)),
        scores=sums.scores() if has_scores else (),
        repeated=int(sums.counts["duplicate"]),
    )


@dataclass
class _Sums:
    """Sums of attention weights over queries, for the scores of the heads."""

    window: list[int]
    n_layer: int
    n_head: int
    device: torch.device

    def __post_init__(self) -> None:
        self.ids = torch.tensor(self.window, device=self.device)
        self.totals = {
            name: torch.zeros(self.n_layer, self.n_head, device=self.device) for name in _KINDS
        }
        self.counts = dict.fromkeys(_KINDS, 0)

    def add(self, layer: int, weights: Tensor) -> None:
        """Count the weights (nh, T, S) of one layer, for the last T of S positions."""
        T, S = weights.shape[1:]
        ids = self.ids[:S]
        queries = torch.arange(S - T, S, device=self.device)[:, None]  # (T, 1)
        keys = torch.arange(S, device=self.device)  # (S)
        earlier = keys < queries  # (T, S)
        same = ids[queries] == ids  # (T, S)
        patterns = {
            "previous": keys == queries - 1,
            "first": (keys == 0) & earlier,
            "duplicate": same & earlier,
            # Key j follows token j - 1; nothing is before the first one.
            "induction": torch.cat((torch.zeros_like(same[:, :1]), same[:, :-1]), dim=1) & earlier,
        }
        for name, pattern in patterns.items():
            self.totals[name][layer - 1] += (weights * pattern).sum((1, 2))
            if layer == 1:
                self.counts[name] += int(pattern.any(-1).sum())

    def scores(self) -> tuple[HeadScores, ...]:
        """The means, layer by layer."""
        means = {
            name: (total / self.counts[name]).tolist() if self.counts[name] else []
            for name, total in self.totals.items()
        }

        def score(name: str, layer: int, head: int) -> float | None:
            return float(means[name][layer][head]) if means[name] else None

        return tuple(
            HeadScores(
                layer + 1,
                head + 1,
                *(score(name, layer, head) for name in _KINDS),
            )
            for layer in range(self.n_layer)
            for head in range(self.n_head)
        )


@torch.inference_mode()
def work(
    context: Context, ids: Sequence[int], layer: int, head: int, *, components: int = 8
) -> Work:
    """The calculation of one head for the last token of ids, with all its numbers.

    weights = softmax over j of (q · kⱼ) scale, mixed = Σ weightⱼ vⱼ, added = W mixed, with W (C,
    hs) the head's columns of the output projection (Vaswani et al. 2017, arXiv:1706.03762). q and k
    are as attention uses them: after their norm and their rotation, if the model has these.

    components: how many leading components of each vector are wanted.
    """
    config = context.config
    for name, number, most in (("layer", layer, config.n_layer), ("head", head, config.n_head)):
        if not 1 <= number <= most:
            raise UserError(f"there is no {name} {number}; this model has 1 to {most}")
    start, window = _window(context, ids)
    context.read(window[:-1])
    seen: list[tuple[Tensor, Tensor, Tensor, Tensor | None]] = []
    handed: list[Tensor] = []

    def see(number: int, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
        if number == layer:
            seen.append((q, k, v, mask))

    def record(number: int, x: Tensor) -> None:
        if number == layer:
            handed.append(x[0, -1])

    with hooked(context.model, {"heads": record}, view=see):
        last = torch.tensor([window[-1:]], device=context.model.wte.weight.device)  # (1, 1)
        context.model.hidden(last, context.fork(len(window) - 1))
    ((q, k, v, mask),), attn = seen, attention_of(context.model, layer)
    row, shared = head - 1, (head - 1) // (config.n_head // config.n_kv)
    query, keys, values = q[0, row, 0].float(), k[0, shared].float(), v[0, shared].float()
    mixed = handed[0].view(-1, config.head_size)[row].float()
    added = head_outputs(attn, handed[0])[row]

    def shown(vector: Tensor) -> tuple[float, ...]:
        return tuple(vector[:components].tolist())

    sees = visible(q, k, mask)
    columns = (
        (keys @ query).tolist(),
        (keys @ query * attn.scale).tolist(),
        sees.expand(config.n_head, -1, -1)[row, 0].tolist(),
        attention_scores(attn, q, k, mask)[row, 0].softmax(-1).tolist(),
    )
    bytes_of = context.tokenizer.token_bytes
    rows = tuple(
        WorkRow(
            start + j,
            Token(window[j], bytes_of(window[j])),
            shown(keys[j]),
            float(keys[j].norm()),
            shown(values[j]),
            float(values[j].norm()),
            *numbers,
        )
        for j, numbers in enumerate(zip(*columns, strict=True))
    )
    return Work(
        layer=layer,
        head=head,
        key_head=shared + 1,
        head_size=config.head_size,
        scale=attn.scale,
        position=len(ids) - 1,
        is_rotated=config.positions == "rotary",
        has_norm=config.qk_norm,
        query=shown(query),
        query_norm=float(query.norm()),
        rows=rows,
        mixed=shown(mixed),
        mixed_norm=float(mixed.norm()),
        added=shown(added),
        added_norm=float(added.norm()),
    )


def _window(context: Context, ids: Sequence[int]) -> tuple[int, list[int]]:
    """Index of the context's first token, and the ids in it."""
    if not ids:
        raise UserError("the text is empty, so no head looks anywhere; give at least one token")
    context.check_ids(ids)
    start = context.window_start(len(ids))
    return start, list(ids[start:])
