"""Compare two models on the same text: how far apart their distributions are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gpt.context import Context
from gpt.generate import logits_of
from gpt.progress import NOBODY, Watcher
from gpt.settings import Ids, Sampling
from gpt.tokenizer import decode


def same_vocabulary(a: Context, b: Context) -> bool:
    """Whether every id has the same bytes in both models, so that distributions can be compared."""
    size = a.config.vocab_size
    return size == b.config.vocab_size and all(
        a.tokenizer.token_bytes(i) == b.tokenizer.token_bytes(i) for i in range(size)
    )


def translate(a: Context, b: Context, ids: Sequence[int]) -> list[int]:
    """Ids of model a → ids of model b for the same text."""
    return list(ids) if same_vocabulary(a, b) else b.encode(decode(a.tokenizer, ids))


def translate_settings(a: Context, b: Context, sampling: Sampling) -> Sampling:
    """Settings of model a → settings of model b, with banned and boosted words as b's ids."""
    if same_vocabulary(a, b):
        return sampling

    def translated(ids: Ids) -> Ids:
        return tuple(b.tokenizer.encode_more(decode(a.tokenizer, ids, whole=False)))

    return replace(
        sampling,
        banned=tuple(filter(None, map(translated, sampling.banned))),
        boosted=tuple(
            (other, nats) for ids, nats in sampling.boosted if (other := translated(ids))
        ),
    )


@torch.inference_mode()
def divergence(
    a: Context, b: Context, ids: Sequence[int], *, watcher: Watcher = NOBODY
) -> list[float]:
    """KL(a ‖ b) = Σ p_a (log p_a − log p_b), in nats, for each token of ids from the second on.

    It says how many nats more b's probabilities cost on average if a's are right (Kullback and
    Leibler 1951); 0 if both are the same. Both models must have the same vocabulary.
    """
    a.check_ids(ids)
    pairs = zip(
        _rows(logits_of(a, ids, watcher=watcher)),
        _rows(logits_of(b, ids, watcher=watcher)),
        strict=False,
    )
    divergences = []
    for logits_a, logits_b in pairs:
        p, q = logits_a.log_softmax(-1), logits_b.log_softmax(-1)  # (V) log-probabilities
        divergences.append(max(0.0, float((p.exp() * (p - q)).sum())))
    return divergences


def _rows(blocks: Iterator[Tensor]) -> Iterator[Tensor]:
    """Blocks (n, V) → their rows (V). The sizes of the blocks of two models may differ."""
    for block in blocks:
        yield from block
