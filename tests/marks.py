"""Marks of pytest that several tests share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(values: Iterable[Any], *usual: Any) -> list[Any]:
    """Parameters of a test of which `make test` takes only the usual ones, `make slow` the rest."""
    return [v if v in usual else pytest.param(v, marks=pytest.mark.slow) for v in values]
