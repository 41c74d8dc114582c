"""Noise that a seed repeats on every device: a hash of the seed, the position and the token."""

from __future__ import annotations

import torch
from torch import Tensor


def exponential(ids: Tensor, seed: int, position: int) -> Tensor:
    """Exponential noise (n) float32 with mean 1 for token ids (n) at a position."""
    return noise(ids, *noise_key(seed, position))


def coin(seed: int, position: int) -> float:
    """A number from 0 to 1, without 1, that belongs to a position and to no token.

    Its hash begins with a bit that no seed has, so it shares nothing with the noise of the tokens.
    """
    return (_splitmix64(_splitmix64(seed | 1 << 63) ^ position) >> 11) / 2**53


def noise_key(seed: int, position: int) -> tuple[int, int]:
    """Two int32 hashed from seed and position, for `noise`."""
    key = _splitmix64(_splitmix64(seed) ^ position)
    return _signed(key & 0xFFFFFFFF), _signed(key >> 32)


def noise(ids: Tensor, first: int | Tensor, second: int | Tensor) -> Tensor:
    """Exponential noise (n) float32 with mean 1 for token ids (n). first, second: the noise key."""
    bits = ~_mix32(_mix32(ids.to(torch.int32) ^ first) ^ second)
    # The smallest noise wins, and floats are finest near 0. The largest must not be infinite.
    uniform = (bits.float() + (bits < 0) * 2.0**32 + 0.5) / 2**32
    return -torch.log1p(-uniform.clamp_max(1 - 2**-24))


def _splitmix64(x: int) -> int:
    """Hash of a 64-bit integer (Steele, Lea and Flood 2014)."""
    x = (x + 0x9E3779B97F4A7C15) & (2**64 - 1)
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return x ^ (x >> 31)


def _mix32(x: Tensor) -> Tensor:
    """Hash of int32 tensors (Wellons' lowbias32); they wrap around the same on every device."""
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D  # the mask removes the copies of the sign bit
    x = (x ^ ((x >> 15) & 0x1FFFF)) * _signed(0x846CA68B)
    return x ^ ((x >> 16) & 0xFFFF)


def _signed(x: int) -> int:
    """The int32 with the same 32 bits."""
    return x - 2**32 if x >= 2**31 else x
