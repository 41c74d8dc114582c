"""How long something takes on this machine, for choices that depend on it."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

_N_CALLS = 4
CLEARLY_LESS = 0.8
"""The faster way must take at most this share of the other's time, or the next start might choose
differently, and so round differently."""


def least_seconds(call: Callable[[], object], threads: int = 1) -> float:
    """Shortest time of a few calls, the one that other programs disturbed least.

    The first call warms up. threads: how many torch may use. With two, each waits for the other,
    and so for any program that runs in its place on a busy machine.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    taken = []
    try:
        for _ in range(_N_CALLS):
            started = time.perf_counter()
            call()
            taken.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)
    return min(taken)
