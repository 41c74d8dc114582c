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

    def __init__(
        self, config: ModelConfig, batch: int = 1, *, dtype: torch.dtype | None = None
    ) -> None:
        """dtype: what numbers are kept in; None: as they come first."""
        self.length = 0
        """Tokens in the cache."""
        self.mask: Tensor | None = None
        """What attention adds to the scores; None: it sees what `append` returns."""
        self._config = config
        self._dtype = dtype
        self._shape = config.n_layer, 2, batch, config.n_head
        self._kept = torch.empty(*self._shape, 0, config.head_size)
        """Keys and values of every layer, (n_layer, 2, B, nh, capacity, hs)."""
        self._slots: list[Tensor] = []
        """What `slots` returned."""

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Put k and v (B, nh, T, hs) of one layer behind the past.

        Returns all keys and values of that layer, (B, nh, length + T, hs) each, in the dtype of
        k. The length moves only with `advance`, once every layer has appended.
        """
        end = self.length + k.size(2)
        if layer == 0:
            self._reserve(end, self._dtype or k.dtype, k.device)
        kept = self._kept[layer]  # (2, B, nh, capacity, hs)
        new = kept[..., self.length : end, :]
        new[0], new[1] = k, v
        keys, values = kept[..., :end, :].to(k.dtype)
        return keys, values

    def slots(self) -> list[Tensor]:
        """Keys of the first layer, its values, keys of the second and so on, of one sequence.

        All the memory there is, (nh, capacity, hs) each, for compiled code, which writes the next
        token itself.
        """
        self._reserve(self.length + 1, self._dtype or torch.float32, torch.device("cpu"))
        if not self._slots:
            self._slots = list(self._kept[:, :, 0].flatten(0, 1).unbind(0))
        return self._slots

    def first(self, capacity: int) -> Tensor:
        """The memory of the first `capacity` tokens, (n_layer, 2, B, nh, capacity, hs).

        It stays where it is until more than it holds are needed. Not of a cache that never had any.
        """
        self._reserve(capacity, self._kept.dtype, self._kept.device)
        return self._kept[..., :capacity, :]

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
        other = KVCache(self._config, len(rows), dtype=self._dtype)
        other.length = length
        other._kept = self._kept[:, :, rows, :, :length]
        return other

    def _reserve(self, needed: int, dtype: torch.dtype, device: torch.device) -> None:
        capacity = self._kept.size(-2)
        if needed <= capacity:
            return
        config = self._config
        while capacity < needed:
            capacity = max(2 * capacity, _FIRST_CAPACITY)
        capacity = min(capacity, max(needed, config.block_size))
        shape = (*self._shape, capacity, config.head_size)
        grown = torch.empty(shape, dtype=dtype, device=device)
        grown[..., : self.length, :] = self._kept[..., : self.length, :]
        self._kept, self._slots = grown, []
