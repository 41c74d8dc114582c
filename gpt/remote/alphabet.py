"""How a tokenizer writes its tokens: strings of its vocabulary → bytes."""

from __future__ import annotations

import re

from gpt.tokenizer import byte_alphabet

_BYTE_LEVEL = byte_alphabet()
_BYTE_NAME = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE = "▁"
_MAY_BE_SPECIAL = re.compile(r"<\S{1,100}>|\[\S{1,100}\]|\S{0,50}<\|\S{1,100}\|>")


def is_byte_level(strings: list[str]) -> bool:
    """Whether a tokenizer writes bytes in GPT-2's alphabet, from its strings for "é a"."""
    return not any(_SPACE in string for string in strings)


def bytes_of(string: str, *, byte_level: bool) -> bytes:
    """The bytes of a token that the vocabulary writes like this.

    byte_level: GPT-2's alphabet, where "Ġ" is a blank; otherwise SentencePiece's, where "▁" is one
    and <0xF0> a byte.
    """
    if byte_level:
        if all(character in _BYTE_LEVEL for character in string):
            return bytes(_BYTE_LEVEL[character] for character in string)
        return string.encode("utf-8", "replace")  # a token that was added as text
    if found := _BYTE_NAME.fullmatch(string):
        return bytes([int(found[1], 16)])
    return string.replace(_SPACE, " ").encode("utf-8", "replace")


def may_be_special(text: str) -> bool:
    """Whether a token's text looks like the name of a special token, such as <|endoftext|>."""
    return _MAY_BE_SPECIAL.fullmatch(text) is not None
