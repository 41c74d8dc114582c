"""Words that a person bans or boosts, as token ids."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress

from gpt.errors import UserError
from gpt.settings import Ids, allowed, check_setting

BYTES = 256
"""Number of bytes. Larger vocabularies have tokens for a word with the space before it."""
BOOST = f"a word, a colon and {allowed('boosted')}, like king:2"
"""What a boost that a person types must be."""
_DIGITS = 20
"""Most digits of a number that is compared with the ids."""


def exactly(text: str) -> str:
    """The item that stands for a text alone, and not for all forms of a word: `"king"`."""
    return json.dumps(text, ensure_ascii=False)


def forms(item: str, vocab_size: int) -> list[str]:
    """The texts by which a model may write a word: without and, in a large vocabulary, with a space
    before it. A word that begins with a space is the only form of itself, as is one in quotes."""
    if len(item) > 2 and item.startswith('"') and item.endswith('"'):
        with suppress(ValueError):
            text = json.loads(item)
            text.encode()  # no half of a pair of surrogates
            return [text]
    if item.startswith(" ") or vocab_size <= BYTES:
        return [item]
    return [item, " " + item]


def sequences(item: str, encode: Callable[[str], list[int]], vocab_size: int) -> tuple[Ids, ...]:
    """The ids that an item stands for: `#12` is token 12, anything else a word in its forms."""
    if item.startswith("#") and item[1:].isdecimal():
        digits = item[1:]
        if len(digits) > _DIGITS or int(digits) >= vocab_size:
            known = f"this model has the ids 0 to {vocab_size - 1}"
            raise UserError(f"there is no token {digits[:_DIGITS]}; {known}")
        return ((int(digits),),)
    found = tuple(tuple(encode(form)) for form in forms(item, vocab_size))
    if not all(found):
        raise UserError(f"{item!r} is not a word; it has no tokens")
    return found


def split_boost(item: str) -> tuple[str, float]:
    """`word:2` → the word and its nats."""
    word, _, number = item.rpartition(":")
    try:
        nats = float(number)
    except ValueError:
        word = ""
    if not word:
        raise UserError(f"boosted is {item!r}; it must be {BOOST}")
    check_setting("boosted", nats)
    return word, nats
