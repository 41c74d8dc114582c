"""Two models on the same text: how far their distributions are apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gpt.checkpoint import Checkpoint
from gpt.context import Context, never
from gpt.generate import check_ids, encode, logits_of
from gpt.progress import Tell, silent
from gpt.settings import Ids, Sampling
from gpt.tokenizer import decode


def same_vocabulary(a: Checkpoint, b: Checkpoint) -> bool:
    """Whether every id stands for the same bytes in both, so that distributions can be compared."""
    size = a.model.config.vocab_size
    return size == b.model.config.vocab_size and all(
        a.tokenizer.token_bytes(i) == b.tokenizer.token_bytes(i) for i in range(size)
    )


def translate(a: Checkpoint, b: Checkpoint, ids: Sequence[int]) -> list[int]:
    """What b reads where a reads ids: the same ids, or its own for their text."""
    return list(ids) if same_vocabulary(a, b) else encode(b, decode(a.tokenizer, ids))


def translate_settings(a: Checkpoint, b: Checkpoint, sampling: Sampling) -> Sampling:
    """The settings with words that are banned or boosted as b has them."""
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
    a: Checkpoint,
    in_a: Context,
    b: Checkpoint,
    in_b: Context,
    ids: Sequence[int],
    *,
    cancelled: Callable[[], bool] = never,
    tell: Tell = silent,
) -> list[float]:
    """KL(a ‖ b) = Σ p_a (log p_a − log p_b), in nats, for the tokens of ids from the second on.

    Both models must have the same vocabulary. It is how many nats b's probabilities cost on
    average where a's are right (Kullback and Leibler 1951); 0 where both are the same.
    """
    check_ids(a, ids)
    pairs = zip(
        _rows(logits_of(a, in_a, ids, cancelled=cancelled, tell=tell)),
        _rows(logits_of(b, in_b, ids, cancelled=cancelled, tell=tell)),
        strict=False,
    )
    found = []
    for own, other in pairs:
        p, q = own.log_softmax(-1), other.log_softmax(-1)
        found.append(max(0.0, float((p.exp() * (p - q)).sum())))
    return found


def _rows(blocks: Iterator[Tensor]) -> Iterator[Tensor]:
    """Blocks (n, V) → their rows (V): the two models read in blocks of their own."""
    for block in blocks:
        yield from block
