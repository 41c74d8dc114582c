"""What a token looks like in a row: its text, signs for what has none, marks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from gpt.sanitize import sanitize
from tui.document import Node
from tui.labels import name_of

MARKED = Style(underline2=True)
FORK = Style(underline=True)
DIFFERENT = Style(underline=True, bold=True)
PLAIN = str.maketrans("\n\t", "  ")
"""Blanks for what only moves the letters."""
VISIBLE = str.maketrans(" \n\t", "·⏎⇥")
"""Signs for it."""
NOTHING = "▏"
"""Shows a token without text when it must be seen."""


def shown_text(node: Node) -> str:
    """The text of a token, or its name or id if it has no text."""
    return node.step.text if node.step.bytes else name_of(node.step)


def boxed_text(node: Node) -> str:
    """The same, but never empty: bytes that only begin a character are shown as numbers."""
    text = shown_text(node)
    return text if sanitize(text) else node.step.bytes.decode("ascii", "backslashreplace")


def starts(nodes: Sequence[Node]) -> list[int]:
    """Byte offset of each token in the text."""
    return list(accumulate((len(node.step.bytes) for node in nodes), initial=0))


def painted(text: str, style: Style, *, is_visible: bool) -> Segment:
    """A token. is_visible: draw signs for blanks, and for a token without text."""
    if is_visible:
        return Segment(text.translate(VISIBLE) or NOTHING, style)
    return Segment(text if text.isprintable() else text.translate(PLAIN), style)


def differs(data: bytes, start: int, other: bytes | None) -> bool:
    """Whether another text, if there is one, has something else than this at an offset."""
    return other is not None and not other.startswith(data, start)


def begun(text: str, style: Style, letter: Style, *, is_visible: bool) -> Iterator[Segment]:
    """A token at which something begins: its first letter has a style of its own.

    is_visible: draw signs for blanks; if the token has only blanks, there are signs in any case.
    """
    blanks = len(text) - len(text.lstrip(" \n\t"))
    begin = 0 if blanks == len(text) else blanks
    shown = text.translate(VISIBLE if is_visible or not begin else PLAIN) or NOTHING
    end = begin + 1
    while end < len(shown) and not cell_len(shown[end]):  # an accent belongs to its letter
        end += 1
    parts = (shown[:begin], style), (shown[begin:end], letter), (shown[end:], style)
    return (Segment(part, look) for part, look in parts if part)
