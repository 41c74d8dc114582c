"""The options by which a command for pipes asks a server."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gpt.command_line import Parser
from gpt.errors import UserError
from gpt.server_address import Address, read_address

if TYPE_CHECKING:
    from gpt.commands.server_model import ServerModel


def add_server(parser: Parser) -> None:
    """The options that say which server has the model."""
    group = parser.add_argument_group("server")
    group.add_argument(
        "--server",
        metavar="URL",
        help="Ask the server at this address; the model is then named as there. "
        "(default: run the model on this machine)",
    )
    group.add_argument(
        "--api-key-env",
        default="",
        metavar="NAME",
        help="Environment variable that has the server's key. (default: no key)",
    )
    group.add_argument(
        "--allow-http",
        action="store_true",
        help="Send texts and keys to another machine without encryption. (default: refuse)",
    )


def at_server(args: argparse.Namespace) -> ServerModel:
    """The model at the server of --server."""
    address = read_address(args.server)
    check_way(address, allow_http=args.allow_http)
    from gpt.commands.server_model import ServerModel
    from gpt.remote.connect import connect

    return ServerModel(connect(address.url, args.api_key_env, model=args.model or ""))


def check_way(address: Address, *, allow_http: bool) -> None:
    """Raise UserError if others on the way to a server could listen and nobody allowed it."""
    if not (address.is_encrypted or address.is_here or allow_http):
        raise UserError(
            f"http://{address.place} is not encrypted: others on the way could read texts and "
            "keys; to allow it, use --allow-http"
        )
