"""What a conversion reports to its caller while it runs. It does not depend on a terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class ConversionProgress:
    """How much of a conversion is done, in bytes."""

    json_name: ClassVar[str] = "progress"

    phase: str
    """download, convert, verify, or measure: what each dtype costs."""
    file: str
    """The file that is read now; in the last two phases, what the model is compared with."""
    file_done: int
    """Bytes of this file that are done."""
    file_total: int
    """Bytes of this file."""
    done: int
    """Bytes of the phase that are done."""
    total: int
    """Bytes of the phase."""


@dataclass(frozen=True)
class Notice:
    """Something that the user should know but that does not stop the conversion."""

    json_name: ClassVar[str] = "notice"

    text: str


@dataclass(frozen=True)
class CheckpointFound:
    """The checkpoint exists. Reported before anything large is downloaded or written."""

    json_name: ClassVar[str] = "found"

    model: str
    kind: str
    """hub, directory or file."""
    n_bytes: int
    """Size of the download, or of the weights that will be written."""
    directory: str = ""
    """Where the model will be written; empty: the reporter does not know."""
    source_bytes: int | None = None
    """Size of the files with the weights on this machine; None before a download."""


Event = ConversionProgress | Notice | CheckpointFound
OnEvent = Callable[[Event], None]
Notify = Callable[[str], object]
"""Receives the text of a notice."""


def ignore_event(event: Event) -> None:
    """Report nothing."""
