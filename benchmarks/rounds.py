"""What every benchmark needs: measurements in turn, and which machine they were taken on."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable
from pathlib import Path


def in_turn(works: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Medians of several measurements, taken A B A B … so that drift hits all alike."""
    for work in works.values():
        work()  # warm-up
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(work())
    return {name: round(statistics.median(values), 4) for name, values in taken.items()}


def cpu() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor()
