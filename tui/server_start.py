"""Which model the program starts with, and whether its server may be asked."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from gpt import models
from gpt.errors import UserError
from gpt.sanitize import one_line
from gpt.server_address import check_key_variable, read_address
from tui import preferences
from tui.preferences import Preferences
from tui.servers import Server, Servers, reference


def model_at_start(
    args: argparse.Namespace, chosen: Preferences, of_text: str
) -> tuple[str, Servers]:
    """The name of the model that the options mean, and the servers that may be asked.

    of_text: the model of the text that is opened; empty: none. Asks in the terminal about a server
    of another machine without encryption. Raises UserError if the server may not be asked.
    """
    servers = Servers(chosen.servers, plain_http=frozenset(chosen.plain_http))
    if args.api_key_env:
        check_key_variable(args.api_key_env)
    if args.server:
        address = read_address(args.server)
        servers = replace(servers, chosen=Server(address))
        name = reference(args.model or "", address.url)
    elif args.model is None and of_text:
        name = of_text if _is_own(of_text) or servers.knows(of_text) else ""
        if not name:
            raise UserError(
                f"the text was written with {of_text}, a server that settings.toml does not name; "
                "to ask it again, start with --server and its address"
            )
    else:
        name = args.model or models.EMBEDDED
    server = servers.find(name)
    if server is None:
        if args.api_key_env:
            raise UserError("--api-key-env is for a server; give its address with --server")
        return name, servers
    if args.api_key_env:
        server = server._replace(api_key_env=args.api_key_env)
        servers = replace(servers, chosen=server)
    if not servers.is_allowed(server) and (args.allow_http or _agrees(server)):
        servers = replace(servers, plain_http=servers.plain_http | {server.address.host})
    servers.check(server)
    return name, servers


def _is_own(name: str) -> bool:
    """Whether a model's name, from a file, means no server."""
    try:
        return Servers().find(name) is None
    except UserError:
        return False


def _agrees(server: Server) -> bool:
    """Ask whether texts may be sent without encryption, and keep a yes."""
    address = server.address
    if not sys.stdin or not sys.stdin.isatty():
        return False
    print(
        f"{one_line(address.place)} is another machine, and http:// is not encrypted: others on "
        "the way could read texts and keys.",
        file=sys.stderr,
    )
    print("Send them all the same, now and later? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().casefold() not in ("y", "yes"):
        return False
    preferences.save({"plain_http": [*preferences.load()[0].plain_http, address.host]})
    return True
