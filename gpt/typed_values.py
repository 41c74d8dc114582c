"""Values from files and other programs, checked where they enter: their kinds and their ranges."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any], bool]

LARGEST = 2**31 - 1
"""Of ids, counts and positions."""


def check(values: Any, checks: Mapping[str, Check]) -> None:
    """Raise ValueError where these are not values by name, naming the first that is not right.

    A value that is missing is None.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{reprlib.repr(values)} stands in the place of values with names")
    for name, is_right in checks.items():
        if not is_right(values.get(name)):
            raise ValueError(f"{name} cannot be {reprlib.repr(values.get(name))}")


def is_whole(value: Any) -> bool:
    """A whole number that an id, a count or a position can be."""
    return type(value) is int and 0 <= value <= LARGEST


def is_flag(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


def is_text(value: Any) -> bool:
    """A text, which may be empty."""
    return isinstance(value, str)


def is_number(low: float, high: float) -> Check:
    """A finite number of this range."""
    return lambda value: type(value) in (int, float) and low <= value <= high


def is_list(value: Any) -> bool:
    """A list of anything."""
    return isinstance(value, list)


def or_none(of: Check) -> Check:
    """Such a value, or none."""
    return lambda value: value is None or of(value)
