"""Events of a session, for the screen that draws it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple

from tui.document import Node


class State(NamedTuple):
    """The program is doing something else now."""

    message: str


class Problem(NamedTuple):
    """Something did not work."""

    message: str


class PromptReturned(NamedTuple):
    """A prompt could not be used; it goes back into its field."""

    text: str


class Change(Enum):
    """Something looks different now."""

    WAITING = auto()
    """The model is not ready, and the reason has changed."""
    LOADED = auto()
    """A model is ready."""
    PATH = auto()
    """The document has another path."""
    GREW = auto()
    """The path has new tokens at its end."""
    LOOK = auto()
    """It is time to show the newest token and the figures of the run."""
    KEPT = auto()
    """A run added nothing, so the path is the same as before it."""
    COMPLETE = auto()
    """The path has stopped growing."""
    ENDED = auto()
    """The session is not busy any more."""


class WhatIf(NamedTuple):
    """A text and its continuation with other settings, both in the document's tree."""

    old: Sequence[Node]
    new: Sequence[Node]
    begin: int
    """Index of the first token that was sampled again."""


class SecondText(NamedTuple):
    """A text and the second model's continuation of its beginning."""

    model: str
    old: Sequence[Node]
    new: Sequence[Node]
    old_begin: int
    """Index of the first sampled token."""
    new_begin: int


class SecondReading(NamedTuple):
    """A text as both models read it."""

    model: str
    old: Sequence[Node]
    new: Sequence[Node]
    vocab_size: int
    """Size of the second model's vocabulary."""
    divergence: Sequence[float] | None
    """The same as in the backend's Compared."""


News = State | Problem | PromptReturned | Change | WhatIf | SecondText | SecondReading
