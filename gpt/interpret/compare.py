"""Two models on the same text: how far their distributions are apart."""

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
    """Whether every id stands for the same bytes in both, so that distributions can be compared."""
    size = a.config.vocab_size
    return size == b.config.vocab_size and all(
        a.tokenizer.token_bytes(i) == b.tokenizer.token_bytes(i) for i in range(size)
    )


def translate(a: Context, b: Context, ids: Sequence[int]) -> list[int]:
    """The ids by which model b reads the text of model a's ids."""
    return list(ids) if same_vocabulary(a, b) else b.encode(decode(a.tokenizer, ids))


def translate_settings(a: Context, b: Context, sampling: Sampling) -> Sampling:
    """Settings for model a as settings for model b: banned and boosted words are translated."""
    if same_vocabulary(a, b):
        return sampling

    def words(ids: Ids) -> Ids:
        return tuple(b.tokenizer.encode(decode(a.tokenizer, ids)))

    return replace(
        sampling,
        banned=tuple(filter(None, map(words, sampling.banned))),
        boosted=tuple((words(ids), nats) for ids, nats in sampling.boosted if words(ids)),
    )


@torch.inference_mode()
def divergence(
    a: Context, b: Context, ids: Sequence[int], *, watcher: Watcher = NOBODY
) -> list[float]:
    """KL(a ‖ b) = Σ p_a (log p_a − log p_b), in nats, for the tokens of ids from the second on.

    Both models must have the same vocabulary. It is how many nats more b's probabilities cost on
    average if a's are right (Kullback and Leibler 1951); 0 if both are the same.
    """
    a.check_ids(ids)
    pairs = zip(
        _rows(logits_of(a, ids, watcher=watcher)),
        _rows(logits_of(b, ids, watcher=watcher)),
        strict=False,
    )
    found = []
    for own, other in pairs:
        p, q = own.log_softmax(-1), other.log_softmax(-1)
        found.append(max(0.0, float((p.exp() * (p - q)).sum())))
    return found


def _rows(blocks: Iterator[Tensor]) -> Iterator[Tensor]:
    """Blocks (n, V) → their rows (V); the block sizes of two models may differ."""
    for block in blocks:
        yield from block
