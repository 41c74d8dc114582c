"""Command-line options from the fields of a configuration class."""

from __future__ import annotations

import argparse
import ast
import inspect
from collections.abc import Container
from contextlib import suppress
from dataclasses import fields
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin, get_type_hints


def add_field_options(
    group: argparse._ArgumentGroup, kind: type, defaults: object, skip: Container[str] = ()
) -> None:
    """Add an option for every field of a dataclass, except those to skip.

    defaults: an instance whose values the help shows. An option that is left out is None.
    """
    hints, docs = get_type_hints(kind), field_docs(kind)
    for field in fields(kind):
        if field.name not in skip:
            default = _shown(getattr(defaults, field.name))
            text = f"{docs.get(field.name, '')} (default: {default})".strip()
            group.add_argument(
                "--" + field.name.replace("_", "-"),
                help=text.replace("%", "%%"),
                **_type(hints[field.name]),
            )


def field_docs(kind: type) -> dict[str, str]:
    """The text under each field of a class, by name. Empty if there is no source file."""
    docs: dict[str, str] = {}
    with suppress(OSError):
        body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
        for field, text in pairwise(body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                docs[ast.unparse(field.target)] = ast.literal_eval(text.value)
    return docs


def _shown(value: object) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _type(kind: Any) -> dict[str, Any]:
    """How argparse reads a field of this type."""
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    if kind is bool:
        return {"type": _boolean, "metavar": "true|false"}
    if kind is float:
        return {"type": float, "metavar": "X"}
    return {"type": int, "metavar": "N"}  # also for int | None


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"
