"""The KV cache: attention's keys and values of the tokens that the network has read.

Letters in shapes are those of gpt/model.py.
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor

from gpt.config import ModelConfig

_FIRST_CAPACITY = 64
"""Tokens that the first memory has room for."""


class KVCache:
    """Keys and values of all layers, so that a new token costs one step and not the whole text.

    Memory doubles as tokens are read, up to the block size, so it never depends on what a
    configuration claims. The cache keeps no gradients: it cannot be used in training.
    """

    def __init__(
        self, config: ModelConfig, batch: int = 1, *, dtype: torch.dtype | None = None
    ) -> None:
        """dtype: how keys and values are stored; None: in the dtype of the first ones."""
        self.length = 0
        """Number of tokens in the cache."""
        self.mask: Tensor | None = None
        """The mask that `attention` gets; None: its causal mask over what `append` returns."""
        self._config = config
        self._dtype = dtype
        self._most = config.block_size
        """Tokens after which memory is not made larger in advance."""
        self._shape = config.n_layer, 2, batch, config.n_kv
        self._memory = torch.empty(*self._shape, 0, config.head_size)
        """Keys and values of every layer, (n_layer, 2, B, kv, capacity, hs)."""
        self._layer_tensors: list[Tensor] = []
        """What `layer_tensors` returned for this memory."""

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v (B, kv, T, hs) of one layer after those of earlier tokens.

        Returns all keys and values of that layer, (B, kv, length + T, hs) each, in the dtype of
        k. The length changes only with `advance`, once every layer has appended.
        """
        end = self.length + k.size(2)
        if layer == 0:
            self._reserve(end, self._dtype or k.dtype, k.device)
        memory = self._memory[layer]  # (2, B, kv, capacity, hs)
        new = memory[..., self.length : end, :]  # (2, B, kv, T, hs)
        new[0], new[1] = k, v
        keys, values = memory[..., :end, :].to(k.dtype)  # (B, kv, length + T, hs)
        return keys, values

    def layer_tensors(self, n_new: int = 1) -> list[Tensor]:
        """Keys of layer 0, values of layer 0, keys of layer 1 and so on, (kv, capacity, hs) each.

        They are the whole memory of the first sequence, with room for n_new more tokens, for
        compiled code that writes the next ones itself.
        """
        self._reserve(self.length + n_new, self._dtype or torch.float32, torch.device("cpu"))
        if not self._layer_tensors:
            self._layer_tensors = list(self._memory[:, :, 0].flatten(0, 1).unbind(0))
        return self._layer_tensors

    def memory(self, capacity: int) -> Tensor:
        """The memory of the first `capacity` tokens, (n_layer, 2, B, kv, capacity, hs).

        It does not move until more tokens need room. Only for a cache to which something was
        appended: that decides the dtype and the device.
        """
        self._reserve(capacity, self._memory.dtype, self._memory.device)
        return self._memory[..., :capacity, :]

    def advance(self, n_tokens: int) -> None:
        """Count tokens that every layer has appended."""
        self.length += n_tokens

    def truncate(self, length: int) -> None:
        """Forget all tokens but the first `length`. Costs nothing."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot truncate a cache of {self.length} tokens to {length}")
        self.length = length

    def bytes_for(self, n_tokens: int) -> int:
        """Bytes that a text of n tokens needs."""
        n_numbers = math.prod(self._shape) * self._config.head_size
        n_tokens = min(n_tokens, self._config.block_size)
        return n_numbers * n_tokens * (self._dtype or torch.float32).itemsize

    def copy(self, length: int, rows: list[int]) -> KVCache:
        """A new cache with the first `length` tokens of the sequences `rows`, in that order."""
        if not 0 <= length <= self.length:
            raise ValueError(f"cannot copy {length} tokens of a cache of {self.length}")
        other = KVCache(self._config, len(rows), dtype=self._dtype)
        other.length = length
        other._memory = self._memory[:, :, rows, :, :length]
        return other

    def _reserve(self, n_tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        """Make room for n tokens in all."""
        capacity = self._memory.size(-2)
        if n_tokens <= capacity:
            return
        config = self._config
        while capacity < n_tokens:
            capacity = max(2 * capacity, _FIRST_CAPACITY)
        capacity = min(capacity, max(n_tokens, self._most))
        shape = (*self._shape, capacity, config.head_size)
        larger = torch.empty(shape, dtype=dtype, device=device)
        larger[..., : self.length, :] = self._memory[..., : self.length, :]
        self._memory, self._layer_tensors = larger, []


class TreeCache(KVCache):
    """A KV cache of a text and of several continuations of it, each token in memory once.

    The continuations' tokens follow those of the text in any order, as if they were one sequence;
    `mask` decides what each of them sees. Numbers are rounded as in the text's cache, but stored in
    the dtype that attention computes with, so that they are converted once and not for each token.
    """

    def __init__(self, text: KVCache, length: int) -> None:
        """Begins with the first `length` tokens of the first sequence of a cache."""
        super().__init__(text._config)
        self.length = length
        self._rounding = text._dtype
        self._most = sys.maxsize
        self._memory = text._memory[:, :, :1, :, :length]  # copied before anything is written

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v (1, kv, T, hs) after all other tokens; all keys and values so far."""
        if self._rounding:
            k, v = (each.to(self._rounding).to(each.dtype) for each in (k, v))
        return super().append(layer, k, v)
