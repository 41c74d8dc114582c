"""How long something takes on this machine, where that decides what is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

_TIMES = 4


def least_seconds(call: Callable[[], object]) -> float:
    """The shortest of a few calls, which other programs disturbed least; the first warms up."""
    taken = []
    for _ in range(_TIMES):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return min(taken)


@contextmanager
def one_thread() -> Iterator[None]:
    """Measure on one core: threads that wait for each other wait for other programs as well."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
