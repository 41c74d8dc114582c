"""Typed text as ids, at a server that reads the name of a special token as that token.

Such a name is cut in two and each part is asked for alone. The cut is where the tokenizer ends a
token anyway: with the name's last character left out, and with its first one left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from gpt.errors import UserError
from gpt.remote.server import Server
from gpt.sanitize import one_line

Encode = Callable[[str], list[int]]
"""Text → ids, as the server reads it."""


def encode(server: Server, text: str, start: Encode, more: Encode) -> list[int]:
    """Ids of a text, in which the name of a special token is ordinary characters.

    start: for a text at its place; more: for one that continues another text.
    """
    ids = start(text)
    name = name_in(server, ids, text)
    if not name:
        return ids
    cut = text.index(name) + _cut(server, name, more)
    parts = encode(server, text[:cut], start, more), encode(server, text[cut:], more, more)
    return parts[0] + parts[1]


def name_in(server: Server, ids: Sequence[int], text: str) -> str:
    """The first special token among ids whose name is in a text; empty if there is none."""
    if "<" not in text and "[" not in text:  # no name is without one
        return ""
    pieces = server.pieces(ids)
    names = (pieces[i].name for i in ids if not pieces[i].bytes)
    return next((name for name in names if name and name in text), "")


def _cut(server: Server, name: str, more: Encode) -> int:
    """Number of characters before a place where the tokenizer would cut a name."""
    data, first = name.encode(), len(name[:1].encode())
    left = _ends(server, name[:-1], more)[:-1]
    right = [first + end for end in _ends(server, name[1:], more)[:-1]]
    # The first character's end is inside the left part only, the last one's start the right part.
    outer = {first} & set(left) or {len(data) - len(name[-1:].encode())} & set(right)
    if found := set(left) & set(right) or outer:
        return len(data[: min(found)].decode("utf-8", "replace"))
    raise UserError(
        f"this server reads {one_line(name)} as a special token, and its tokenizer shows no place "
        "to cut that into ordinary text; leave it out"
    )


def _ends(server: Server, text: str, more: Encode) -> list[int]:
    """Number of bytes before the end of each token of a text; empty if it is not those tokens."""
    ids = more(text)
    pieces = server.pieces(ids)
    is_text = b"".join(pieces[i].bytes for i in ids) == text.encode()
    return list(accumulate(len(pieces[i].bytes) for i in ids)) if is_text else []
