"""Texts on the disk: saved while they grow, locked while they are open, and listed."""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from gpt import models
from gpt.errors import UserError
from tui.atomic import write
from tui.dials import Setup
from tui.document import Document, Node
from tui.saved_text import BROKEN, Entry, document_of, entry_of, lines_of

if TYPE_CHECKING:
    from gpt.interventions import Intervention

try:
    import fcntl
except ImportError:  # Windows: if two programs open one text, the later save wins
    fcntl = None  # type: ignore[assignment]

_ENCODER = json.JSONEncoder(separators=(",", ":"))
_SUFFIX, _DELETED = ".jsonl", ".deleted"
LARGEST = 2**30
"""Most bytes of a file that are read."""
_LONGEST_HEAD = 2**26
_UNKNOWN = datetime.fromtimestamp(0, UTC)


def home() -> Path:
    """The directory of texts, next to the models."""
    return models.home().parent / "texts"


class Place:
    """The file of one document, locked against other programs while it is open."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock: IO[bytes] | None = None
        self._saving = threading.Lock()
        self.seconds = 0.0
        """Duration of the previous save."""

    @property
    def path(self) -> Path | None:
        """The file; None until the first save."""
        return self._path

    def claim(self) -> bool:
        """Lock the file; False if another program has the text open."""
        if self._path is None or fcntl is None:
            return True
        # If the directory cannot be written, saving reports it.
        with suppress(OSError):
            # O_NONBLOCK: a named pipe in its place cannot block.
            flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK
            lock = os.fdopen(os.open(self._path.with_suffix(".lock"), flags, 0o666), "rb")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                lock.close()
                if isinstance(error, BlockingIOError):
                    self._path = None  # changes are saved as another text
                    return False
                raise
            self._lock = lock
        return True

    def save(
        self,
        model: str,
        nodes: list[Node],
        path: list[Node],
        system: str = "",
        acting: tuple[Intervention, ...] = (),
        setup: Setup | None = None,
    ) -> None:
        """Write all tokens; the file is replaced in one step.

        system: the system prompt. acting: what is changed inside the network now. setup: how the
        reader leaves it.
        """
        if not nodes and self._path is None:
            return
        try:
            with self._saving:  # no save in a thread may overwrite the last one
                home().mkdir(parents=True, exist_ok=True)
                if self._path is None:
                    name = datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S-%f")
                    self._path = home() / f"{name}{_SUFFIX}"
                    self.claim()
                began = time.perf_counter()
                lines = lines_of(model, nodes, path, system, acting, setup)
                write(self._path, (_ENCODER.encode(line) + "\n" for line in lines))
                self.seconds = time.perf_counter() - began
        except OSError as error:
            raise UserError(f"cannot save the text in {home()}: {error.strerror}") from error

    def release(self) -> None:
        """Unlock the file."""
        if self._lock and self._path:
            with suppress(OSError):
                self._path.with_suffix(".lock").unlink()
            self._lock.close()
            self._lock = None


def load(path: Path) -> tuple[Document, Entry]:
    """Load a saved text. A broken file is renamed, and UserError names it."""
    try:
        with _open(path) as file:
            head = json.loads(file.readline(_LONGEST_HEAD))
            entry = entry_of(path, head)
            return document_of(head, map(json.loads, file)), entry
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except BROKEN as error:
        aside = _set_aside(path)
        what = f"was set aside as {aside.name}" if aside else "cannot be set aside"
        raise UserError(f"{path} is broken and {what}: {error}") from error


def _open(path: Path) -> IO[str]:
    """Open a text. Raises ValueError if it is not a regular file or too large."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("it is not a regular file")
    if facts.st_size > LARGEST:
        raise ValueError(f"{facts.st_size} bytes are too many")
    return path.open(encoding="utf-8")


def _set_aside(path: Path) -> Path | None:
    """Rename a broken file to a free name; None if that fails."""
    stem = os.fsdecode(os.fsencode(path.stem)[:200])  # leaves room for the suffix
    names = (f"{stem}{n}.broken" for n in ("", *(f"-{n}" for n in range(2, 1000))))
    free = (path.with_name(name) for name in names if not os.path.lexists(path.with_name(name)))
    try:
        return path.rename(next(free))
    except (OSError, StopIteration):
        return None


def delete(path: Path) -> Path:
    """Take a text out of the list; returns its file, which can be renamed back.

    Raises UserError if another program has the text open, or if its directory cannot be written.
    """
    place = Place(path)
    if not place.claim():
        raise UserError("another program has this text open")
    try:
        return path.rename(path.with_suffix(_DELETED))
    except OSError as error:
        raise UserError(f"cannot delete {path}: {error.strerror}") from error
    finally:
        place.release()


def has_texts() -> bool:
    """Whether a text was saved, without reading any."""
    with suppress(OSError):
        return any(home().glob(f"*{_SUFFIX}"))
    return False


def entries() -> list[Entry]:
    """All texts, newest first, then the unreadable files; `load` renames those."""
    found = [entry for path in home().glob(f"*{_SUFFIX}") if (entry := _listed(path))]
    return sorted(found, key=lambda entry: entry.saved, reverse=True)


def _listed(path: Path) -> Entry | None:
    """The entry of a file; None if the file is gone."""
    try:
        with _open(path) as file:
            return entry_of(path, json.loads(file.readline(_LONGEST_HEAD)))
    except FileNotFoundError:
        return None
    except (OSError, *BROKEN) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return Entry(path, f"unreadable: {path.name}: {reason}", "", 0, _UNKNOWN)
