"""Checks of what a server sends, which may be anything."""

from __future__ import annotations

import operator
from typing import Any

from gpt.errors import UserError
from gpt.typed_values import LARGEST, is_whole

_LEAST, _MOST = -3.5e38, 1e-3  # float32: rounding may make it a little more than 0
_NUMBERS = (float, int)


def table(value: Any, what: str = "its answer") -> dict[str, Any]:
    """A value that must be an object; `what` names it in the error."""
    if not isinstance(value, dict):
        raise unexpected(what)
    return value


def items(value: Any, what: str) -> list[Any]:
    """A value that must be a list; None counts as an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise unexpected(what)
    return value


def text(value: Any, what: str) -> str:
    """A value that must be a text; None counts as an empty one."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise unexpected(what)
    return value


def size(value: Any) -> int:
    """A number of tokens or parameters; 0 if it is not one."""
    return value if type(value) is int and 0 < value < 2**63 else 0


def small_size(value: Any) -> int:
    """As size, but at most the largest id, count or position."""
    return found if (found := size(value)) <= LARGEST else 0


def token_id(value: Any) -> int:
    """A value that must be a token id."""
    if not is_whole(value):
        raise unexpected("a token id")
    return int(value)


def ids(value: Any, what: str = "the token ids") -> list[int]:
    """A value that must be a list of token ids. A vocabulary may come whole with every token, so
    all are checked at once."""
    found = items(value, what)
    if found and (set(map(type, found)) != {int} or min(found) < 0 or max(found) > LARGEST):
        raise unexpected("a token id")
    return found


def logprob(value: Any) -> float:
    """A value that must be a finite log-probability in nats."""
    if not is_logprob(value):
        raise unexpected("a log-probability")
    return float(value)


def is_logprob(value: Any) -> bool:
    """Whether it is a finite log-probability. Minus infinity is what some send for "never"."""
    return type(value) in _NUMBERS and _LEAST <= value <= _MOST


def data(value: Any) -> bytes:
    """A value that must be a list of bytes as numbers; None counts as an empty one."""
    try:
        return bytes(items(value, "the bytes of a token"))
    except (TypeError, ValueError) as error:
        raise unexpected("the bytes of a token") from error


def are_in_order(logprobs: list[Any]) -> bool:
    """Whether these are finite log-probabilities, each less than the one before."""
    return (
        set(map(type, logprobs)) == {float}
        and all(map(operator.gt, logprobs, logprobs[1:]))  # not so for NaN
        and logprobs[0] <= _MOST
        and logprobs[-1] >= _LEAST
    )


def unexpected(what: str) -> UserError:
    """The error for a value of another shape than the server's documents say."""
    return UserError(
        f"the server sent {what} in a form that is not known here; its version may be too new or "
        "too old"
    )
