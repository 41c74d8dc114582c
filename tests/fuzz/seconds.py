"""How long a fuzzer runs."""

from __future__ import annotations

import os


def seconds(default: float) -> float:
    """FUZZ_SECONDS of the environment, for each fuzzer; else the default."""
    return float(os.environ.get("FUZZ_SECONDS") or default)
