"""What several benchmarks need: measurements in turn, medians, the name of the processor."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable
from pathlib import Path


def in_turn(measures: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Medians of several measurements, in the order A B A B …, so that drift affects all alike."""
    for measure in measures.values():
        measure()  # warm-up
    taken: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            taken[name].append(measure())
    return {name: round(statistics.median(values), 4) for name, values in taken.items()}


def medians(taken: dict[str, list[float]]) -> dict[str, float]:
    """The median of each list."""
    return {name: round(statistics.median(values), 1) for name, values in taken.items()}


def cpu() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor()
