"""Make text from outside safe for a terminal.

Prompts, model outputs, vocabularies, file names and error messages may contain escape sequences
that reprogram a terminal, and characters that reorder or hide the characters next to them.
"""

from __future__ import annotations

import unicodedata

# Cc controls, Cf formats (bidi, zero width), Cs surrogates, Co private, Cn unassigned,
# Zl and Zp line separators.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


class _Table(dict[int, str]):
    """Table for str.translate: the text for each code point, computed when it is first needed."""

    def __missing__(self, code: int) -> str:
        self[code] = shown = _show(code)
        return shown


def _show(code: int) -> str:
    """The text that shows a code point."""
    character = chr(code)
    if character in "\n\t":
        return character
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures: ␀ ␁ … ␛ …
    if code == 0x7F:
        return "␡"
    if 0xFE00 <= code <= 0xFE0F:
        return ""  # variation selectors change a character's width and terminals disagree on it
    if unicodedata.category(character) in _INVISIBLE:
        return f"<U+{code:04X}>"
    return character


_TABLE = _Table()


def sanitize(text: str) -> str:
    """The text with visible signs for everything that a terminal would obey or hide.

    Line breaks and tabs stay. Each character is replaced by itself, so an escape sequence that is
    split over several texts is caught as well.
    """
    return text if text.isascii() and text.isprintable() else text.translate(_TABLE)


def one_line(text: str) -> str:
    """`sanitize` for labels and errors: line breaks and tabs become visible signs as well."""
    return sanitize(text).replace("\n", "⏎").replace("\t", "⇥")


def one_for_one(text: str) -> str:
    """`sanitize` for a text field: each character becomes exactly one character."""
    if text.isascii() and text.isprintable():
        return text
    shown = ((character, _TABLE[ord(character)]) for character in text)
    return "".join(s if len(s) == 1 else "\ufffd" if s else c for c, s in shown)
