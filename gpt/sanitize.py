"""Text from outside → text that a terminal may see; it knows no terminal.

A prompt, a model's output, a token table, a file name and an error may hold escape sequences
that would reprogram a terminal, and characters that reorder or hide what stands beside them.
"""

from __future__ import annotations

import unicodedata

# Cc controls, Cf formats (bidi, zero width), Cs surrogates, Co private, Cn unassigned,
# Zl and Zp line separators.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


class _Table(dict[int, str]):
    """For str.translate: what each code point becomes, found out once."""

    def __missing__(self, code: int) -> str:
        self[code] = shown = _show(code)
        return shown


def _show(code: int) -> str:
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
    """The text with everything that a terminal would obey or hide made visible.

    Line breaks and tabs stay. It works on single characters, so a sequence that is split over
    several texts cannot slip through.
    """
    return text if text.isascii() and text.isprintable() else text.translate(_TABLE)


def one_line(text: str) -> str:
    """The same with line breaks and tabs as visible signs too, for labels and errors."""
    return sanitize(text).replace("\n", "⏎").replace("\t", "⇥")


def one_for_one(text: str) -> str:
    """The same for a field that is edited, where a character must stay one character."""
    if text.isascii() and text.isprintable():
        return text
    shown = ((character, _TABLE[ord(character)]) for character in text)
    return "".join(s if len(s) == 1 else "\ufffd" if s else c for c, s in shown)
