"""Plain records that become JSON and come back. Imports no torch."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Record:
    """A frozen dataclass whose fields are plain values, records, or tuples of these."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; bytes as a list of numbers."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of to_dict. A missing field has its default.

        Raises ValueError that names a missing field, one that does not exist, or one whose value
        has another type.
        """
        types_of, known = _types(cls), {each.name: each for each in fields(cls)}
        if not isinstance(values, Mapping):
            raise ValueError("a record must be an object with names and values")
        if unknown := sorted(map(str, values.keys() - known.keys())):
            raise ValueError(f"there is no field {unknown[0][:50]!r}")
        found = {}
        for name, each in known.items():
            if name in values:
                try:
                    found[name] = _read(types_of[name], values[name])
                except (TypeError, ValueError) as error:
                    raise ValueError(f"{name} {error}") from None
            elif each.default is MISSING and each.default_factory is MISSING:
                raise ValueError(f"the field {name} is missing")
        return cls(**found)


_TYPES: dict[type[Record], dict[str, Any]] = {}


def _types(cls: type[Record]) -> dict[str, Any]:
    """Name of each field → its type."""
    if cls not in _TYPES:
        _TYPES[cls] = get_type_hints(cls)
    return _TYPES[cls]


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, bytes):
        return list(value)
    return list(map(_plain, value)) if isinstance(value, tuple) else value


_SIMPLE: dict[Any, tuple[str, frozenset[type]]] = {
    int: ("must be a whole number", frozenset({int})),
    float: ("must be a number", frozenset({int, float})),
    bool: ("must be true or false", frozenset({bool})),
    str: ("must be a text", frozenset({str})),
}
"""For each simple type: what a person calls it, and the types that are accepted."""


def _read(kind: Any, value: Any) -> Any:
    """A value from JSON as the type of a field. Raises ValueError or TypeError."""
    if kind in _SIMPLE:
        sentence, accepted = _SIMPLE[kind]
        if type(value) not in accepted:
            raise ValueError(sentence)
        return float(value) if kind is float else value
    if kind is bytes:
        return bytes(value)
    origin = get_origin(kind)
    if origin is Literal:
        if value not in get_args(kind):
            raise ValueError(f"must be one of {', '.join(map(str, get_args(kind)))}")
        return value
    if origin in (types.UnionType, Union):
        (other,) = (each for each in get_args(kind) if each is not type(None))
        return None if value is None else _read(other, value)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError("must be a list")
        item = get_args(kind)[0]
        return tuple(_read(item, each) for each in value)
    return kind.from_dict(value)
