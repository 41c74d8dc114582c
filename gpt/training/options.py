"""Command-line options from the fields of a configuration class."""

from __future__ import annotations

import argparse
import ast
import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from itertools import pairwise
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from gpt.command_line import listed, number, one_of, wrong

Ranges = Mapping[str, tuple[str, Callable[[float], bool]]]
"""Number → what it must be, in words, and whether a value is that."""
_SHARES = {"momentum", "cooldown", "average", "dropout", "attn_dropout"}
"""Fields whose values are from 0 to 1."""


def add_field_options(
    group: argparse._ArgumentGroup, defaults: object, names: Iterable[str], ranges: Ranges
) -> None:
    """Add options for the named fields of a dataclass. An option that is left out is None.

    defaults: an instance of the dataclass, whose values the help shows.
    """
    kind = type(defaults)
    hints, docs = get_type_hints(kind), field_docs(kind)
    for name in names:
        hint, value = _if_given(hints[name]), getattr(defaults, name)
        choices = f"Choices: {listed(get_args(hint))}." if get_origin(hint) is Literal else ""
        # A command line cannot say None; what that means is the default.
        text, _, meaning = docs.get(name, "").removesuffix(".").partition("; None: ")
        default = meaning if meaning and value is None else _shown(value)
        parts = (text + "." * bool(text), choices, f"(default: {default})")
        group.add_argument(
            "--" + name.replace("_", "-"),
            help=" ".join(filter(None, parts)).replace("%", "%%"),
            **_type(name, hint, ranges),
        )


def field_docs(kind: type) -> dict[str, str]:
    """The text under each field of a class, by name. Empty if there is no source file."""
    docs: dict[str, str] = {}
    with suppress(OSError):
        body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                docs[ast.unparse(field.target)] = " ".join(ast.literal_eval(text.value).split())
    return docs


def _shown(value: object) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _if_given(hint: Any) -> Any:
    """The type of a field's value if it is not None."""
    kinds = get_args(hint)
    return kinds[0] if kinds[1:] == (NoneType,) else hint


def _type(name: str, kind: Any, ranges: Ranges) -> dict[str, Any]:
    """How argparse reads a field of this type."""
    if get_origin(kind) is Literal:
        return {"type": one_of(get_args(kind)), "metavar": "NAME"}
    if kind is bool:
        return {"type": _boolean, "metavar": "true|false"}
    read = number(kind, *ranges[name]) if name in ranges else kind
    if kind is float:
        return {"type": read, "metavar": "0-1" if name in _SHARES else "X"}
    return {"type": read, "metavar": "N"}


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise wrong(text, "true or false")
    return text == "true"
