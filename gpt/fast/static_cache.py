"""A KV cache for a CUDA graph, which needs fixed shapes, fixed memory and no numbers of Python."""

from __future__ import annotations

import torch
from torch import Tensor


class LayerCache:
    """The part of a static cache that belongs to one layer."""

    def __init__(self, memory: Tensor, length: Tensor, mask: Tensor) -> None:
        """memory (2, kv, S, hs): keys and values; length (): tokens in it; mask (1, 1, 1, S)."""
        self._memory, self._length, self.mask = memory, length, mask

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k, v (1, kv, 1, hs) → the whole memory: keys and values (1, kv, S, hs) each."""
        new = torch.stack((k[0], v[0]))  # (2, kv, 1, hs)
        keys, values = self._memory.index_copy_(2, self._length.view(1), new)
        return keys[None], values[None]


class StaticCache:
    """A KV cache for S tokens whose length is a tensor; a mask hides the part not yet used."""

    def __init__(self, memory: Tensor) -> None:
        """memory (n_layer, 2, 1, kv, S, hs): from `KVCache.memory`."""
        self._layers = list(memory[:, :, 0])
        self._positions = torch.arange(memory.size(-2), device=memory.device)
        self._masked = torch.finfo(memory.dtype).min
        self.length = torch.zeros((), dtype=torch.long, device=memory.device)
        """() number of tokens in the cache."""
        self.mask = torch.zeros(1, 1, 1, memory.size(-2), dtype=memory.dtype, device=memory.device)
        """(1, 1, 1, S) added to attention scores, from `update_mask`."""

    def update_mask(self) -> None:
        """Let the next token see the tokens in the cache and itself."""
        self.mask.copy_((self._positions > self.length) * self._masked)

    def layer(self, index: int) -> LayerCache:
        """The part of one layer."""
        return LayerCache(self._layers[index], self.length, self.mask)

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """As LayerCache.append, for a layer by its index."""
        return self.layer(layer).append(layer, k, v)

    def advance(self, n_tokens: int) -> None:
        """Count tokens that every layer has appended."""
        self.length.add_(n_tokens)
