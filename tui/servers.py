"""Servers that run a model: how a person names them; connects to none.

A model at a server is named MODEL@SERVER, wherever a model has a name: SERVER is an address, or a
name in settings.toml. MODEL may be empty: the server's only model, or the one in settings.toml.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from gpt.errors import UserError
from gpt.nearest import did_you_mean
from gpt.server_address import Address, check_key_variable, read_address

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names of servers in settings.toml."""
_AT_ADDRESS = re.compile(r"(?P<model>.*)@(?P<server>https?://.+)", re.DOTALL)
_AT_NAME = re.compile(rf"(?P<model>.*)@(?P<server>{NAME.pattern})", re.DOTALL)
_FIELDS = ("url", "model", "api_key_env")


class Server(NamedTuple):
    """A server and the model that it runs."""

    address: Address
    model: str = ""
    """The server's name for it; empty: its only one."""
    api_key_env: str = ""
    """Name of the environment variable that has the key; empty: the server needs none."""


def read_server(name: str, values: object) -> Server:
    """A server of settings.toml. The error repeats no value: one of them may be a key."""
    if not NAME.fullmatch(name):
        raise UserError("its name may only have letters, digits, dots, dashes and underscores")
    if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
        raise UserError('it must be a table of texts, such as url = "http://127.0.0.1:8000"')
    if unknown := sorted(values.keys() - set(_FIELDS)):
        advice = "; for a key, api_key_env names an environment variable" if _is_key(values) else ""
        raise UserError(f"it can only have {', '.join(_FIELDS)}, and not {unknown[0][:40]}{advice}")
    if "url" not in values:
        raise UserError("it lacks url")
    return Server(
        read_address(values["url"]), values.get("model", ""), values.get("api_key_env", "")
    )


def _is_key(values: Mapping[str, Any]) -> bool:
    return any("key" in name or "token" in name for name in values.keys() - set(_FIELDS))


def reference(model: str, server: str) -> str:
    """The name of a model at a server."""
    return f"{model}@{server}"


def at_same_server(name: str, model: str) -> str:
    """Another model at the server that a model's name has."""
    return reference(model, name.rpartition("@")[2])


def with_model(name: str, model: str) -> str:
    """The same name with the model that the server chose, if it names a server and no model."""
    is_short = name.startswith("@") and model
    return reference(model, name.removeprefix("@")) if is_short else name


@dataclass(frozen=True)
class Servers:
    """The servers that a person has named, and what they allowed."""

    named: Mapping[str, Server] = field(default_factory=lambda: MappingProxyType({}))
    """Those of settings.toml."""
    chosen: Server | None = None
    """That of the command line."""
    plain_http: frozenset[str] = frozenset()
    """Other machines' hosts that may be asked without encryption."""

    def find(self, name: str) -> Server | None:
        """The server that a model's name means; None for a model of this machine."""
        if found := _AT_ADDRESS.fullmatch(name):
            address = read_address(found["server"])
            return Server(address, found["model"], self._key_of(address))
        found = _AT_NAME.fullmatch(name)
        if not found:
            return None
        if server := self.named.get(found["server"]):
            key = self._key_of(server.address, server.api_key_env)
            return Server(server.address, found["model"] or server.model, key)
        if found["model"]:
            return None  # a directory may have such a name
        near = did_you_mean(found["server"], self.named)
        raise UserError(
            f"there is no server {found['server']!r} in settings.toml{near}"
            if near or self.named
            else f"settings.toml has no servers; add [servers.{found['server']}] with its url"
        )

    def _key_of(self, address: Address, own: str = "") -> str:
        """The variable with the key of an address, however the server is named. The command line
        counts first, then `own`."""
        if self.chosen and self.chosen.address == address and self.chosen.api_key_env:
            return self.chosen.api_key_env
        same = (each.api_key_env for each in self.named.values() if each.address == address)
        return own or next(filter(None, same), "")

    def knows(self, name: str) -> bool:
        """Whether a model's name means a server that the person has named themselves.

        Only such a server may be asked because a file says so.
        """
        try:
            server = self.find(name)
        except UserError:
            return False
        known = [each.address for each in (self.chosen, *self.named.values()) if each]
        return server is not None and server.address in known

    def is_allowed(self, server: Server) -> bool:
        """Whether texts may be sent there: encrypted, to this machine, or as the person said."""
        address = server.address
        return address.is_encrypted or address.is_here or address.host in self.plain_http

    def check(self, server: Server) -> None:
        """Raise UserError if the server must not or cannot be asked."""
        if not self.is_allowed(server):
            raise UserError(
                f"http://{server.address.place} is not encrypted: others on the way could read "
                "texts and keys; to allow it, start with --allow-http, or "
                f'add plain_http = ["{server.address.host}"] to settings.toml'
            )
        if server.api_key_env:
            check_key_variable(server.api_key_env)
