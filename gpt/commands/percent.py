"""Probabilities as a person reads them in a table."""

from __future__ import annotations

import math


def percent(logprob: float) -> str:
    """A probability with four digits, from its natural logarithm."""
    return f"{100 * math.exp(logprob):#.4g} %"
