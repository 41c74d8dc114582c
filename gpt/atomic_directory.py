"""Writes a directory so that it appears complete or not at all.

It is built as a hidden draft in the same parent directory and then renamed. A process holds a lock
on its draft, so the drafts of killed processes are recognised and removed.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from gpt.errors import UserError
from gpt.models import MANIFEST

try:
    import fcntl
except ImportError:  # Windows: drafts are not locked there, and so never removed by `sweep`
    fcntl = None  # type: ignore[assignment]

_DRAFT, _OLD = ".draft", ".old"
"""Ends of the names of a draft, and of an old directory while it is being replaced."""


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """Yield an empty draft, which replaces `directory` if the block succeeds.

    On any error, and on Ctrl+C, the draft is removed and the old directory stays as it was. Open
    files of the old directory can still be read. A directory that is not a checkpoint is never
    replaced.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        sweep(directory.parent)
        draft, lock = _new_draft(directory)
    except OSError as error:
        raise UserError(f"cannot write in {directory.parent}: {error.strerror}") from error
    try:
        yield draft
        _open_to_umask(draft)
        _swap(draft, directory)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {directory}: {error}") from error
    finally:
        try:
            shutil.rmtree(draft, ignore_errors=True)
        finally:  # even if Ctrl+C interrupts the removal
            _finish(draft.with_suffix(_OLD), directory)
            os.close(lock)


def sweep(parent: Path) -> None:
    """Remove the drafts of killed processes.

    If a process was killed after it had renamed the old directory and before it renamed the
    draft, the old directory gets its name back.
    """
    for draft in parent.glob(f".*.????????{_DRAFT}"):
        if (lock := _lock(draft)) is not None:
            shutil.rmtree(draft, ignore_errors=True)
            os.close(lock)
    for old in parent.glob(f".*.????????{_OLD}"):
        if not old.with_suffix(_DRAFT).exists():
            _finish(old, parent / old.name[1 : -len(f".????????{_OLD}")])


def _finish(old: Path, directory: Path) -> None:
    """Remove the renamed old directory, or give its name back if there is no new one."""
    if directory.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.exists():
        with suppress(OSError):
            old.rename(directory)


def _new_draft(directory: Path) -> tuple[Path, int]:
    """An empty draft, and the file descriptor that holds its lock."""
    while True:
        draft = Path(
            tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=_DRAFT, dir=directory.parent)
        )
        lock = _lock(draft)
        if lock is None:  # no locks on this file system, or another process just removed the draft
            lock = os.open(os.devnull, os.O_RDONLY)
        if draft.exists():
            return draft, lock
        os.close(lock)


def _lock(draft: Path) -> int | None:
    """A file descriptor that locks a draft until it is closed; None if it cannot be locked."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(draft, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _open_to_umask(draft: Path) -> None:
    """Give files the usual permissions; mkdtemp and safetensors make them private."""
    umask = os.umask(0)
    os.umask(umask)
    for path in draft.iterdir():
        path.chmod(0o666 & ~umask)
    draft.chmod(0o777 & ~umask)


def check_place(directory: Path) -> None:
    """Refuse a path at which there is something other than a checkpoint or an empty directory."""
    if not directory.exists() or (directory / MANIFEST).is_file():
        return
    if not directory.is_dir() or any(directory.iterdir()):
        raise UserError(f"{directory} exists and is not a checkpoint; choose another place")


def _swap(draft: Path, directory: Path) -> None:
    """Rename the draft to `directory`, after renaming what is there.

    If another process does the same at the same time, the later one wins.
    """
    old = draft.with_suffix(_OLD)
    while True:
        with suppress(FileNotFoundError):
            check_place(directory)
            directory.rename(old)
        try:
            draft.rename(directory)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            shutil.rmtree(old, ignore_errors=True)
