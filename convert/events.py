"""What a conversion tells its caller while it runs; it knows no terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a conversion is, in bytes."""

    phase: str
    """download, convert or verify."""
    file: str
    """The file that is being read; transformers while it is compared with."""
    file_done: int
    """Bytes of it that are done."""
    file_total: int
    """Its size."""
    done: int
    """Bytes of the whole phase that are done."""
    total: int
    """Bytes of the whole phase."""


@dataclass(frozen=True)
class Notice:
    """Something that the user should know and that stops nothing."""

    text: str


@dataclass(frozen=True)
class Found:
    """A checkpoint is there; told before anything large is fetched or written."""

    model: str
    kind: str
    """hub or directory."""
    n_bytes: int
    """Size of the download, or of the weights that will be written."""


Event = Progress | Notice | Found
Tell = Callable[[Event], None]


def silent(event: Event) -> None:
    """Tell nobody."""
