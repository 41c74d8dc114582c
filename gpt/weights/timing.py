"""How long something takes on this machine, where that decides what is done."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

_TIMES = 4


def least_seconds(call: Callable[[], object], threads: int = 1) -> float:
    """The shortest of a few calls, which other programs disturbed least; the first warms up.

    threads: how many torch may use. Two wait for each other, and so for whatever a busy machine
    lets run in the place of either.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    taken = []
    try:
        for _ in range(_TIMES):
            started = time.perf_counter()
            call()
            taken.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(before)
    return min(taken)
