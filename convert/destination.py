"""Where a new checkpoint goes: its name, whether it may be written, whether it fits."""

from __future__ import annotations

import shutil
from pathlib import Path

from gpt import models
from gpt.errors import UserError

_OTHER_FILES_BYTES = 1 << 24
"""Disk space for all files except the weights."""


def output_directory(model: str, out: Path | None, name: str | None) -> Path:
    """The directory of the new checkpoint. Refuses names that a model cannot have."""
    if out is not None:
        if name is not None:
            raise UserError("--out already names the checkpoint; leave --name out")
        return out.absolute()
    if name is None:
        name = Path(model).absolute().name.removesuffix(".gguf")
    if name in ("", models.EMBEDDED) or name.startswith(".") or Path(name).name != name:
        raise UserError(f"a model cannot have the name {name!r}; choose another --name")
    if not name.isprintable() or len(name.encode()) > 200 or "\\" in name:
        raise UserError(
            f"the name {name[:50]!r} is not a valid directory name; choose another --name"
        )
    return models.home() / name


def check_output(directory: Path, force: bool) -> None:
    """Refuse a directory that must not be written."""
    try:
        if (directory / models.MANIFEST).is_file():
            if not force:
                raise UserError(f"{directory} already exists; --force replaces it")
        elif directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise UserError(f"{directory} exists and is not a checkpoint; choose another place")
    except OSError as error:  # the name is too long, or the directory is not readable
        raise UserError(f"{directory} cannot be used: {error.strerror}") from error


def check_disk_space(directory: Path, size: int) -> None:
    """Refuse a directory whose disk has no room for weights of `size` bytes and the rest."""
    parent = next(path for path in directory.parents if path.exists())
    free = shutil.disk_usage(parent).free
    needed = size + _OTHER_FILES_BYTES
    if free < needed:
        raise UserError(
            f"{directory} needs {needed / 1e9:.2f} GB and {parent} has {free / 1e9:.2f} GB free; "
            "free some space or choose another place with --out"
        )
