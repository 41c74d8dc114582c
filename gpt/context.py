"""What a model has read: ids, their keys and values, their hidden states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from gpt.cache import KVCache
from gpt.model import GPT
from gpt.prediction import Prediction, predict

if TYPE_CHECKING:
    from gpt.cuda import Graphs

PREFILL = 256
"""Tokens that the network reads at once: enough to be fast, few enough to stop soon."""


def never() -> bool:
    """The default for `cancelled`."""
    return False


class FastStep(Protocol):
    """The network for one more token of one sequence, on a shorter way (gpt/compiled.py)."""

    def hidden(self, token_id: int, cache: KVCache) -> Tensor:
        """→ (E); the cache is one token longer afterwards."""

    def race(
        self, scores: Tensor, ids: Tensor, numbers: Tensor, thrown: Tensor, everyone: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As in gpt/settle.py, for all tokens or as many as a Prediction has looked up."""

    def prediction(self, hidden: Tensor) -> Prediction | None:
        """Of the hidden state (E) that was computed last; None for any other."""


class Context:
    """The ids that a model has read last, with their KV cache and hidden states.

    Reading a path that shares its beginning costs only what differs. The hidden states give
    the distribution at any position read with one product and without the network.
    """

    def __init__(self, model: GPT) -> None:
        self.model = model
        self.step: FastStep | None = None
        """What reads single tokens in the place of the model."""
        self.graphs: Graphs | None = None
        """What draws tokens on a GPU."""
        self.ids: list[int] = []
        self.hidden: list[Tensor] = []
        """One (E) per id."""
        self.cache = model.new_cache()
        self._device = model.wte.weight.device

    @torch.inference_mode()
    def read(self, ids: Sequence[int], cancelled: Callable[[], bool] = never) -> list[Tensor]:
        """Hidden states of ids, at most block_size; fewer where it was cancelled."""
        same = _common_prefix(self.ids, ids)
        if same == len(ids):
            return self.hidden[:same]  # a look back: what was read behind it stays
        self.truncate(same)
        for start in range(same, len(ids), PREFILL):
            if cancelled():
                break
            chunk = list(ids[start : start + PREFILL])
            if self.step and len(chunk) == 1:
                self.hidden.append(self.step.hidden(chunk[0], self.cache))
            else:
                new = torch.tensor([chunk], device=self._device)  # (1, T)
                self.hidden += self.model.hidden(new, self.cache)[0].unbind(0)  # (E) each
            self.ids += chunk
        return self.hidden

    def truncate(self, n_tokens: int) -> None:
        """Forget all tokens but the first ones; no more than were read."""
        del self.ids[n_tokens:], self.hidden[n_tokens:]
        self.cache.truncate(n_tokens)

    def count(self, token_id: int, hidden: Tensor) -> None:
        """Take a token as read whose keys and values are in the cache; hidden (E): its state."""
        self.ids.append(token_id)
        self.hidden.append(hidden)
        self.cache.advance(1)

    def predict(self, hidden: Tensor) -> Prediction:
        """What a hidden state (E) that was read says of the next token."""
        known = self.step.prediction(hidden) if self.step else None
        return predict(raw_logits(self.model, hidden[None])) if known is None else known

    def fork(self, n_tokens: int) -> KVCache:
        """A cache of its own with the first tokens that were read."""
        return self.cache.copies(n_tokens, [0])


@torch.inference_mode()
def raw_logits(model: GPT, hidden: Tensor) -> Tensor:
    """Hidden states (…, E) → logits (…, V) float32."""
    return model.logits(hidden).float()


def window_start(n_tokens: int, block_size: int) -> int:
    """Where the context of n tokens begins when a text outgrows the block size.

    The window moves on by quarters of a block, so it is recomputed once in a while and not
    for every token, and a position has the same context whoever asks for it.
    """
    quarter = max(1, block_size // 4)
    return max(0, -(-(n_tokens - block_size) // quarter) * quarter)


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    return next(i for i in range(n) if a[i] != b[i])
