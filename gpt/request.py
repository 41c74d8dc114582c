"""Fields of a request from outside: of the right kind, or a UserError that names the field."""

from __future__ import annotations

from typing import Any

from gpt.errors import UserError

Request = dict[str, Any]
LONGEST_TEXT = 10_000_000
"""Characters of a text that is taken at once: more would only fill the memory."""
_REQUIRED = object()


def typed(request: Request, name: str, kind: type, default: Any = _REQUIRED) -> Any:
    """A field of this kind; one without a default must be there."""
    value = request.get(name, default)
    if value is _REQUIRED:
        raise UserError(f"the request lacks {name}")
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{name} must be of the kind {kind.__name__}")
    return value


def path_of(request: Request) -> list[int]:
    """The ids that a request names."""
    ids: list[int] = typed(request, "ids", list, [])
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise UserError("ids must be a list of whole numbers")
    return ids


def text(request: Request, name: str, default: Any = _REQUIRED) -> str:
    """A text, not longer than LONGEST_TEXT."""
    value = str(typed(request, name, str, default))
    if len(value) > LONGEST_TEXT:
        raise UserError(
            f"{name} has {len(value):,} characters; at most {LONGEST_TEXT:,} are read at once"
        )
    return value


def texts(request: Request, name: str, default: Any = _REQUIRED) -> list[str]:
    """A list of texts, none of them empty."""
    values: list[str] = typed(request, name, list, default)
    if not all(isinstance(value, str) and value for value in values):
        raise UserError(f"{name} must be a list of texts")
    return values


def whole(request: Request, name: str, default: int) -> int:
    """A whole number that is not negative."""
    value: int = typed(request, name, int, default)
    if not 0 <= value < 2**31:
        raise UserError(f"{name} is {value}; it must be from 0 to {2**31 - 1}")
    return value
