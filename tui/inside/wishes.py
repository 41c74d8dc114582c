"""What a view wants of the screen: texts from the person, or that the model writes in its way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from textual.message import Message

from gpt.interventions import Intervention


class Typed(NamedTuple):
    """A text that the person typed, and its tokens."""

    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Blank:
    """A field to be filled."""

    label: str
    """Above it: what belongs there."""
    text: str = ""
    """What stands there at first."""


class Ask(Message):
    """Let the person fill fields, then hand over what was typed."""

    def __init__(
        self,
        title: str,
        blanks: Sequence[Blank],
        check: Callable[[list[Typed]], str],
        then: Callable[[list[Typed]], object],
    ) -> None:
        """check: returns what is wrong with the texts, or nothing."""
        super().__init__()
        self.title, self.blanks, self.check, self.then = title, blanks, check, then


class WriteWith(Message):
    """Let the model continue the text with these changes inside, from now on."""

    def __init__(self, changes: tuple[Intervention, ...]) -> None:
        super().__init__()
        self.changes = changes
