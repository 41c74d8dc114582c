"""Replaces a file in one step: a reader sees the old file or the new one, never a half."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def write(path: Path, parts: Iterable[str]) -> None:
    """Replace a file by these texts, joined. Raises OSError; the file is then unchanged."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".draft")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
