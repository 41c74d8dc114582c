"""What a server's error says, as one sentence for a person."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from gpt.sanitize import one_line

_LONGEST = 400
"""Most characters of a server's own words."""


def words(body: bytes) -> str:
    """A server's own words in the body of an error; empty if it has none that can be shown."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        return ""  # a page of a proxy in between
    return said(values)


def said(values: Any) -> str:
    """A server's own words in an object that describes an error; empty if there are none.

    vLLM, SGLang and llama.cpp say {"error": {"message": …}}, some of their routes {"error": …},
    {"message": …} or {"detail": …}, where a detail may be a list of objects with a msg.
    """
    for _ in range(4):
        if isinstance(values, str):
            return shortened(values)
        if isinstance(values, list) and values:
            values = values[0]
        elif isinstance(values, dict):
            names = ("error", "message", "detail", "msg")
            values = next((values[name] for name in names if values.get(name)), None)
    return ""


def shortened(text: str) -> str:
    """Text from outside on one line, without what a terminal would obey."""
    shown = one_line(" ".join(text[: 4 * _LONGEST].split()))
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"


def refusal(place: str, status: int, own_words: str, *, has_key: bool) -> str:
    """Why a server does not answer a request.

    Args:
        place: host and port of the server.
        status: the HTTP status.
        own_words: what the server says.
        has_key: whether a key was sent.
    """
    reason = f": {own_words}" if own_words else ""
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        advice = (
            "check the key in the environment variable that --api-key-env names"
            if has_key
            else "name the environment variable that has its key with --api-key-env"
        )
        return f"the server at {place} wants a key{reason}; {advice}"
    if not own_words:
        names = {each.value: each.phrase for each in HTTPStatus}
        reason = f" with HTTP status {status} {names.get(status, '')}".rstrip()
    return f"the server at {place} refused this{reason}"
