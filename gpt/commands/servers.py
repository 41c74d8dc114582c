"""`python -m gpt servers`: what a server can do, measured."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gpt.command_line import Parser
from gpt.commands.server_options import check_way
from gpt.sanitize import one_line
from gpt.server_address import read_address
from gpt.setting_names import setting_name

if TYPE_CHECKING:
    from gpt.capabilities import Capabilities
    from gpt.remote.session import Session

EXAMPLES = {
    "python -m gpt servers http://127.0.0.1:8000": "See what the server on this machine can do",
    "python -m gpt servers https://example.org --api-key-env KEY": "Ask one that wants a key",
}
"""Command → what it does."""
_PROMPT = {
    "one request": "all tokens of a text, in one request",
    "a request a token": "all tokens of a text, with a request for each",
    "none": "only tokens that the server draws",
}
_SEED = {
    "strict": "the same seed repeats a text",
    "best effort": "the same seed may not repeat a text exactly",
    "none": "ignored: a text cannot be repeated",
}


def add_arguments(parser: Parser) -> None:
    """The options of the command."""
    group = parser.add_argument_group("server")
    group.add_argument("url", metavar="URL", help="Address of the server.")
    group.add_argument(
        "--model",
        default="",
        metavar="NAME",
        help="The server's name of the model. (default: its only one)",
    )
    group.add_argument(
        "--api-key-env",
        default="",
        metavar="NAME",
        help="Name of the environment variable that has the key. (default: none)",
    )
    group.add_argument(
        "--allow-http",
        action="store_true",
        help="Ask another machine without encryption. (default: refuse)",
    )
    parser.add_argument_group("output").add_argument(
        "--json", action="store_true", help="Print a JSON object. (default: print a table)"
    )


def run(args: argparse.Namespace) -> None:
    """Measure what the server can do and print it."""
    check_way(read_address(args.url), allow_http=args.allow_http)
    from gpt.remote.connect import connect

    session = connect(
        args.url,
        args.api_key_env,
        model=args.model,
        probe=True,
        tell=lambda message: print(f"{message} …", file=sys.stderr),
    )
    session.close()
    if args.json:
        facts = session.model._asdict()
        print(json.dumps({"model": facts, **session.capabilities.to_dict()}))
        return
    for name, value in _lines(session):
        print(f"{name:14} {one_line(value)}")


def _lines(session: Session) -> Iterator[tuple[str, str]]:
    can, model = session.capabilities, session.model
    yield "server", can.server
    yield "address", can.address
    yield "model", model.name
    if len(can.models) > 1:
        yield "other models", ", ".join(name for name in can.models if name != model.name)
    for name, number in (
        ("parameters", model.n_params),
        ("vocabulary", model.vocab_size),
        ("context", model.block_size),
    ):
        yield name, f"{number:,}" if number else "not known"
    yield from _numbers(can)


def _settings(can: Capabilities) -> str:
    if can.settings is None:
        return "all"
    return ", ".join(map(setting_name, can.settings)) or "none"


def _numbers(can: Capabilities) -> Iterator[tuple[str, str]]:
    yield "candidates", "all tokens" if can.candidates is None else f"the best {can.candidates:,}"
    yield "numbers", "the model's own" if can.is_raw else "only those after the sampling settings"
    yield "entropy", "exact where all tokens are asked for" if can.is_exact else "a lower bound"
    yield "probabilities", _PROMPT[can.prompt]
    yield "token ids", "yes" if can.has_ids else "no: tokens are known by their text"
    yield "random seed", _SEED[can.seed]
    yield "settings", _settings(can)
    yield "chat", "by the server's template" if can.chat else "no template"
    yield "insides", "not shown"
