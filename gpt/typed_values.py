"""Checks of types and ranges, for plain values that come from files and other programs."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], bool]
"""Whether a value is right."""

LARGEST = 2**31 - 1
"""The largest id, count or position."""


def check(values: Any, checks: Mapping[str, Check]) -> None:
    """Raise ValueError if values is not a dict, or naming the first value that is not right.

    A missing value counts as None.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{reprlib.repr(values)} must be an object with names and values")
    for name, is_right in checks.items():
        if not is_right(values.get(name)):
            raise ValueError(f"{name} cannot be {reprlib.repr(values.get(name))}")


def is_whole(value: Any) -> bool:
    """Whether it is a whole number that an id, a count or a position can have."""
    return type(value) is int and 0 <= value <= LARGEST


def is_flag(value: Any) -> bool:
    """Whether it is true or false."""
    return isinstance(value, bool)


def is_text(value: Any) -> bool:
    """Whether it is a text, which may be empty."""
    return isinstance(value, str)


def is_number(low: float, high: float) -> Check:
    """A check for finite numbers from low to high."""
    return lambda value: type(value) in (int, float) and low <= value <= high


def is_list(value: Any) -> bool:
    """Whether it is a list, with any contents."""
    return isinstance(value, list)


def or_none(is_right: Check) -> Check:
    """A check that also accepts None."""
    return lambda value: value is None or is_right(value)
