"""Addresses of servers, checked before anything is sent to them.

An address and the name of an environment variable may be seen by others: in a list of processes, in
a saved text, in an error. A key may not, so neither of them ever contains one.
"""

from __future__ import annotations

import ipaddress
import os
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from gpt.errors import UserError

_LONGEST = 2000
"""Most characters of an address."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")


class Address(NamedTuple):
    """A server's address."""

    url: str
    """Without a slash at its end, and without the /v1 that other programs want."""
    host: str
    """Name or number of the machine, in small letters."""
    port: int | None
    is_encrypted: bool

    @property
    def is_here(self) -> bool:
        """Whether the server is on this machine, so that nobody in between can listen."""
        return is_this_machine(self.host)

    @property
    def place(self) -> str:
        """Host and port, for a person."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


def read_address(url: str) -> Address:
    """Check an address. Nothing that may be a password is repeated in the error."""
    if len(url) > _LONGEST or not url.isascii() or not url.isprintable() or " " in url:
        raise UserError(
            "the server's address is too long or has characters that no address has; "
            "write it like http://127.0.0.1:8000"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UserError(
            "the server's address cannot be read; write it like http://127.0.0.1:8000"
        ) from error
    if "@" in parts.netloc:
        raise UserError(
            "the server's address has a user name or password, which others could see; leave it "
            "out and use --api-key-env NAME, the environment variable that has the key"
        )
    if parts.scheme not in ("http", "https") or not host:
        raise UserError(
            "the server's address must begin with http:// or https://, like http://127.0.0.1:8000"
        )
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise UserError(
            "the server's address has a ? or #, which may be a key that others could see; leave it "
            "out and use --api-key-env NAME"
        )
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    found = Address("", host, port, parts.scheme == "https")
    return found._replace(url=f"{parts.scheme}://{found.place}{path}")


def is_this_machine(host: str) -> bool:
    """Whether a host is a loopback address: 127.0.0.0/8, ::1 or localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_key_variable(name: str) -> None:
    """Raise UserError if no environment variable of this name has a key.

    The error does not repeat the name: it may be the key itself.
    """
    if not _VARIABLE.fullmatch(name):
        raise UserError(
            "--api-key-env must be the name of an environment variable that has the key, and not "
            "the key itself"
        )
    if not os.environ.get(name):
        raise UserError(
            "the environment variable that --api-key-env names is not set; set it to the key first"
        )
