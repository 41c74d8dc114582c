"""Texts from files and pipes, as text or as one sentence about why not."""

from __future__ import annotations

import sys
from pathlib import Path

from gpt.errors import UserError


def read(path: Path) -> str:
    """A UTF-8 file. Raises UserError."""
    try:
        return _decode(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def read_stdin() -> str:
    """All of stdin. Raises UserError where it is no UTF-8."""
    return _decode(sys.stdin.buffer.read(), "stdin")


def _decode(data: bytes, source: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is no UTF-8 text (byte {error.start})") from error
