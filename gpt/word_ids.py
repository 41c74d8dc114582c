"""Words that a person wants more, less or never, as token ids; it knows no torch."""

from __future__ import annotations

from collections.abc import Callable

from gpt.errors import UserError
from gpt.settings import Ids, check

BYTES = 256
"""Vocabularies that are larger join a space to the word behind it."""

_DIGITS = 20
"""Of the largest number that may be an id."""


def forms(word: str, vocab_size: int) -> list[str]:
    """The texts as which a model may write a word: by itself, and joined to the space before it
    where the vocabulary has such tokens. A word that begins with a space is meant like this."""
    if word.startswith(" ") or vocab_size <= BYTES:
        return [word]
    return [word, " " + word]


def sequences(item: str, encode: Callable[[str], list[int]], vocab_size: int) -> tuple[Ids, ...]:
    """What an item of a list names: `#12` the token 12, anything else a word in all its forms.

    Raises UserError for a number that is no token and for a word that has no tokens.
    """
    if item.startswith("#") and item[1:].isdecimal():
        digits = item[1:]
        if len(digits) > _DIGITS or int(digits) >= vocab_size:
            raise UserError(f"there is no token {digits[:_DIGITS]}; this model has {vocab_size}")
        return ((int(digits),),)
    found = tuple(tuple(encode(form)) for form in forms(item, vocab_size))
    if not all(found):
        raise UserError(f"{item!r} is no word")
    return found


def split_boost(item: str) -> tuple[str, float]:
    """`word:2` → the word and its nats. Raises UserError for another shape or a boost too large."""
    word, _, written = item.rpartition(":")
    try:
        nats = float(written)
    except ValueError:
        word = ""
    if not word:
        raise UserError(f"{item!r} should be a word, a colon and a number, like king:2")
    check("boosted", nats)
    return word, nats
