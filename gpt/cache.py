"""Keys and values of the tokens that the network has read; it knows no tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from gpt.config import ModelConfig

_FIRST_CAPACITY = 64


class KVCache:
    """What attention needs of the past, so that a new token costs one step and not the whole text.

    Memory grows by doubling with what is read, up to the block size: it never depends on
    what a configuration claims. Not in training mode: it keeps no gradients.
    """

    def __init__(self, config: ModelConfig, batch: int = 1) -> None:
        self.length = 0
        """Tokens in the cache."""
        self._config = config
        self._batch = batch
        self._keys: list[Tensor] = []  # per layer (B, nh, capacity, hs)
        self._values: list[Tensor] = []

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put k and v (B, nh, T, hs) of one layer behind the past.

        Returns all keys and values of that layer, (B, nh, length + T, hs) each, as views.
        The length moves only with `advance`, once every layer has appended.
        """
        end = self.length + k.size(2)
        if layer == 0:
            self._reserve(end, like=k)
        self._keys[layer][:, :, self.length : end] = k
        self._values[layer][:, :, self.length : end] = v
        return self._keys[layer][:, :, :end], self._values[layer][:, :, :end]

    def advance(self, n_tokens: int) -> None:
        """Count the tokens that every layer has appended."""
        self.length += n_tokens

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first `length`; costs nothing."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate a cache of {self.length} tokens to {length}")
        self.length = length

    def copies(self, length: int, rows: list[int]) -> KVCache:
        """A new cache that holds the first `length` tokens of these sequences, in this order."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot copy {length} tokens of a cache of {self.length}")
        other = KVCache(self._config, len(rows))
        other.length = length
        other._keys = [keys[rows, :, :length] for keys in self._keys]
        other._values = [values[rows, :, :length] for values in self._values]
        return other

    def _reserve(self, needed: int, like: Tensor) -> None:
        capacity = self._keys[0].size(2) if self._keys else 0
        if needed <= capacity:
            return
        config = self._config
        capacity = min(max(needed, 2 * capacity, _FIRST_CAPACITY), max(needed, config.block_size))
        shape = (self._batch, config.n_head, capacity, config.head_size)
        for tensors in (self._keys, self._values):
            grown = [
                torch.empty(shape, dtype=like.dtype, device=like.device)
                for _ in range(config.n_layer)
            ]
            for old, new in zip(tensors, grown, strict=False):
                new[:, :, : self.length] = old[:, :, : self.length]
            tensors[:] = grown
