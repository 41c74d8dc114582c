"""Turns of a conversation as ids, by the server's own chat template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gpt.errors import UserError
from gpt.remote.plain_text import Encode, name_in
from gpt.remote.server import Message, Server

_ANSWERS = "Yes", "No"
"""Two answers that end in different tokens."""


_STAND_INS = ":", "?"
"""Two texts in place of what a person writes, which begin and end with different tokens."""


class Turn(NamedTuple):
    """A text with a person's new turn at its end."""

    ids: list[int]
    template: frozenset[int]
    """Positions of the tokens of this turn that the template put around what the person wrote."""


def turn(server: Server, ids: Sequence[int], text: str, system: str, encode_more: Encode) -> Turn:
    """A text with a person's turn after it. The ids so far stay as they are.

    The first turn is what the template makes of the messages. A later one is what it puts after an
    answer: the end of the model's turn, if the model did not write it, and the person's turn.
    Nothing in what a person writes becomes a special token.

    system: what the model is told before the first turn; it has no effect on later ones.
    encode_more: a text that continues another one → ids without special tokens.
    """
    told = [_message("system", system)] if system and not ids else []
    added, *others = (
        _added(server, ids, [*told, _message("user", each)]) for each in (text, *_STAND_INS)
    )
    if told and added == _added(server, ids, [_message("user", text)]):
        raise UserError("this model's chat template ignores a system prompt; leave it out")
    start = min(_common_end(added[::-1], other[::-1]) for other in others)
    end = len(added) - min(_common_end(added, other) for other in others)
    before, written, after = added[:start], added[start:end], added[end:]
    if told and name_in(server, before, system):
        raise UserError("the system prompt has the name of a special token in it; leave it out")
    if name_in(server, written, text):
        pieces = server.pieces(written)
        data = b"".join(pieces[i].bytes or pieces[i].name.encode() for i in written)
        written = encode_more(data.decode("utf-8", "replace"))
    whole = [*ids, *before, *written, *after]
    first, last = len(ids) + len(before), len(whole) - len(after)
    return Turn(whole, frozenset([*range(len(ids), first), *range(last, len(whole))]))


def _added(server: Server, ids: Sequence[int], messages: Sequence[Message]) -> list[int]:
    """The ids that a template puts after a text for some messages."""
    if not ids:
        return server.apply_template(messages)
    asked = _message("user", "?")
    one, other = (
        server.apply_template([asked, _message("assistant", answer), *messages])
        for answer in _ANSWERS
    )
    added = one[len(one) - _common_end(one, other) :]
    if len(added) == len(one):
        raise UserError(
            "this model's chat template shows no answers, so that a chat has one turn; "
            "start a new text"
        )
    if added and ids[-1] == added[0] and not server.pieces([added[0]])[added[0]].bytes:
        return added[1:]  # the model wrote the end of its turn
    return added


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _common_end(a: Sequence[int], b: Sequence[int]) -> int:
    """Number of ids that both end with."""
    pairs = zip(reversed(a), reversed(b), strict=False)
    return next((n for n, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
