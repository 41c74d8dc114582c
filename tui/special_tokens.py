"""Special tokens in what a person writes: the person inserts them, and letters never become them.

In a field, the name of an inserted token is between two marks. They are characters that Unicode
keeps free for such uses, and texts from elsewhere lose them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from gpt.step import Step

OPEN, CLOSE = "\ufdd0", "\ufdd1"
INSERTED = re.compile(f"{OPEN}([^{OPEN}{CLOSE}]*){CLOSE}")
_MARKS = re.compile(f"[{OPEN}{CLOSE}]")
SHOWN = str.maketrans(OPEN + CLOSE, "‹›")
"""What a mark looks like."""

Segments = tuple[str | int, ...]
"""Texts, and ids of special tokens between them."""


def inserted(name: str) -> str:
    """A special token for a field."""
    return f"{OPEN}{without_marks(name)}{CLOSE}"


def without_marks(text: str) -> str:
    """A text from elsewhere, in which nothing is a special token."""
    return _MARKS.sub("", text)


def field_text(steps: Iterable[Step]) -> str:
    """A part of a text for a field."""
    return "".join(inserted(step.name) if step.name else step.text for step in steps)


def segments(text: str, ids: Mapping[str, int]) -> Segments:
    """The texts and the ids of the special tokens of a field.

    ids: name → id of the model's special tokens. The name of a token that the model does not have
    is letters.
    """
    found: list[str | int] = [""]
    for i, part in enumerate(INSERTED.split(text)):
        if i % 2 and part in ids:
            found += [ids[part], ""]
        else:
            found[-1] = f"{found[-1]}{without_marks(part)}"
    return tuple(part for part in found if part != "")


def has_special(text: str, ids: Mapping[str, int]) -> bool:
    """Whether a special token is in a field; ids: as for `segments`."""
    return any(isinstance(part, int) for part in segments(text, ids))


def plain(text: str) -> str:
    """The text of a field as a person reads it."""
    return text.translate(SHOWN)
