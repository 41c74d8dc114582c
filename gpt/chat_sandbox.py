"""Renders a chat template as transformers does, in a process of its own.

A template is code from outside. jinja2's sandbox keeps it from files and objects, but not from
endless loops and endless texts: so `python -m gpt.chat_sandbox` limits its own time and memory,
and gpt/chat_template.py can end it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

SECONDS = 3
"""Most time on the CPU."""
MEMORY = 1 << 30
"""Most bytes of address space; the interpreter needs a tenth of it."""
_SHOWN = 300
"""Most characters of an error."""


def render(
    template: str,
    messages: Sequence[Mapping[str, str]],
    tokens: Mapping[str, str],
    *,
    add_generation_prompt: bool = True,
    longest: int = 1 << 20,
) -> str:
    """The text of a conversation.

    Args:
        messages: each with `role` and `content`.
        tokens: names of special tokens that the template may use, such as `eos_token`.
        add_generation_prompt: whether the text ends with the beginning of the model's turn.
        longest: most characters; a longer text raises TemplateError.
    """
    values: dict[str, Any] = {**tokens, "messages": [dict(message) for message in messages]}
    values |= {"add_generation_prompt": add_generation_prompt, "tools": None, "documents": None}
    parts, size = [], 0
    for part in _environment().from_string(template).generate(values):
        parts.append(part)
        size += len(part)
        if size > longest:
            raise TemplateError(f"it makes a text of more than {longest:,} characters")
    return "".join(parts)


def _environment() -> ImmutableSandboxedEnvironment:
    """jinja2 with the settings and additions of transformers' chat templates."""
    found = ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", _GenerationTag],
    )
    found.filters["tojson"] = _to_json
    found.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "namespace": _PublicNamespace,
    }
    return found


class _GenerationTag(Extension):
    """`{% generation %}`, which marks the model's words and changes nothing."""

    tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_unchanged"), [], [], body).set_lineno(line)

    def _unchanged(self, caller: Callable[[], str]) -> str:
        return caller()


class _PublicNamespace(Namespace):
    """A namespace without names that begin with _, which lead into Python's internals."""

    def __init__(*args: Any, **values: Any) -> None:
        self, *tables = args  # so that a value may be called self
        Namespace.__init__(self)
        for name, value in dict(*tables, **values).items():
            self[name] = value

    def __setitem__(self, name: str, value: Any) -> None:
        if str(name).startswith("_"):
            raise SecurityError(f"it stores {name!r} in a namespace")
        Namespace.__setitem__(self, name, value)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without jinja2's escapes for web pages."""
    options = {"indent": indent, "separators": separators, "sort_keys": sort_keys}
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)  # type: ignore[arg-type]


def _raise_exception(message: str) -> None:
    raise TemplateError(message)


def answer(request: Mapping[str, Any]) -> list[dict[str, str]]:
    """For each conversation of a request: its `text`, or the `error`.

    request: has `template`, `tokens`, `conversations` and `longest`.
    """
    found = []
    for messages in request["conversations"]:
        try:
            text = render(
                request["template"], messages, request["tokens"], longest=request["longest"]
            )
            found.append({"text": text})
        except MemoryError:
            found.append({"error": "it needs too much memory"})
        except RecursionError:
            found.append({"error": "it is nested too deeply"})
        except Exception as error:  # a template may raise anything
            found.append({"error": (str(error) or type(error).__name__)[:_SHOWN]})
    return found


def _limit() -> None:
    """Let the system end this process if it needs too much, and keep it from writing files."""
    try:
        import resource
    except ImportError:  # Windows has no such limits; the parent's time limit holds there too
        return
    datetime.now()  # reads the time zone
    for kind, most in (
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        _, hard = resource.getrlimit(kind)
        if hard == resource.RLIM_INFINITY or most < hard:
            with suppress(ValueError, OSError):  # macOS does not know all of them
                resource.setrlimit(kind, (most, hard))


def main() -> None:
    """Answer one request: JSON on stdin, JSON on stdout."""
    request = json.loads(sys.stdin.buffer.read())
    _limit()
    sys.stdout.write(json.dumps(answer(request)))


if __name__ == "__main__":
    main()
