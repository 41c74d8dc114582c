"""A directory that appears complete or not at all; it knows no model.

It is built as a hidden draft beside its place and renamed. A draft is locked while its
process lives, so one that a killed process left behind can be told apart and removed.
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
except ImportError:  # Windows: nothing is locked there, and so nothing is swept
    fcntl = None  # type: ignore[assignment]

_DRAFT, _OLD = ".draft", ".old"


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """A new directory beside this one, which takes its place if the block succeeds.

    On any error, an interrupt too, it is removed and the old one stays as it was. What
    reads the old files goes on reading them. Raises UserError where the disk does not allow
    it, or where the place is taken by something that is no checkpoint.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        sweep(directory.parent)
        draft, lock = _new_draft(directory)
    except OSError as error:
        raise UserError(f"cannot write beside {directory}: {error.strerror}") from error
    try:
        yield draft
        _open_to_umask(draft)
        _swap(draft, directory)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {directory}: {error}") from error
    finally:
        try:
            shutil.rmtree(draft, ignore_errors=True)
        finally:  # also where an interrupt comes just now
            _settle(draft.with_suffix(_OLD), directory)
            os.close(lock)


def sweep(parent: Path) -> None:
    """Remove the drafts of processes that were killed.

    Where one was killed between moving the old directory aside and putting the new one in
    its place, the old one comes back.
    """
    for draft in parent.glob(f".*.????????{_DRAFT}"):
        if (lock := _lock(draft)) is not None:
            shutil.rmtree(draft, ignore_errors=True)
            os.close(lock)
    for old in parent.glob(f".*.????????{_OLD}"):
        if not old.with_suffix(_DRAFT).exists():
            _settle(old, parent / old.name[1 : -len(f".????????{_OLD}")])


def _settle(old: Path, directory: Path) -> None:
    """Remove what was moved aside, or put it back where nothing took its place."""
    if directory.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.exists():
        with suppress(OSError):
            old.rename(directory)


def _new_draft(directory: Path) -> tuple[Path, int]:
    """An empty draft and the descriptor that holds its lock."""
    while True:
        made = tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=_DRAFT, dir=directory.parent)
        lock = _lock(Path(made))
        if lock is None:  # no locks on this file system, or just swept by another process
            lock = os.open(os.devnull, os.O_RDONLY)
        if Path(made).exists():
            return Path(made), lock
        os.close(lock)


def _lock(draft: Path) -> int | None:
    """A descriptor that locks a draft until it is closed; None where that is not to be had."""
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
    """mkdtemp and safetensors make private files; a checkpoint is like any other file."""
    umask = os.umask(0)
    os.umask(umask)
    for path in draft.iterdir():
        path.chmod(0o666 & ~umask)
    draft.chmod(0o777 & ~umask)


def check_place(directory: Path) -> None:
    """Raise UserError where something stands that no checkpoint may replace."""
    if not directory.exists() or (directory / MANIFEST).is_file():
        return
    if not directory.is_dir() or any(directory.iterdir()):
        raise UserError(f"{directory} exists and is no checkpoint; choose another place")


def _swap(draft: Path, directory: Path) -> None:
    """Rename draft to directory, moving what is there aside first.

    Another process may do the same at the same time: the last one wins.
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
