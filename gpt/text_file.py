"""Files and pipes as text, or one sentence about why not."""

from __future__ import annotations

import codecs
import os
import stat
import sys
from pathlib import Path

from gpt.errors import UserError

LIMIT = 1 << 31
"""Bytes of the largest text that is read."""
# Editors on Windows begin a text with one of these.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read(path: Path) -> str:
    """A person's text, as `decode` gives it. A named pipe is read as well. Raises UserError."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise UserError(f"{path} is a device and not a text file")
        with path.open("rb") as file:
            return decode(file.read(LIMIT + 1), str(path))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {_reason(error)}") from error


def read_stdin() -> str:
    """All of stdin, as `decode` gives it. Raises UserError."""
    try:
        data = sys.stdin.buffer.read(LIMIT + 1)
    except OSError as error:
        raise UserError(f"cannot read stdin: {error.strerror}") from error
    return decode(data, "stdin")


def decode(data: bytes, source: str) -> str:
    """UTF-8, or UTF-16 with its mark, as text whose lines end with a line feed alone.

    source: what the bytes are called in an error. Raises UserError if they are not a text.
    """
    if len(data) > LIMIT:
        raise UserError(f"{source} is larger than {LIMIT >> 30} GiB")
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        place = 0 if encoding == "utf-16" else error.start
        raise UserError(f"{source} is no UTF-8 text (byte {place})") from error
    if "\0" in text:
        raise UserError(f"{source} is no text: it has a NUL (character {text.index(chr(0))})")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_small(path: Path, limit: int) -> str:
    """A regular file of at most limit bytes that a program wrote, without a byte order mark.

    A pipe or a device, which might never end, is not opened. Raises UserError.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path} is no regular file")
        if found.st_size > limit:
            raise UserError(f"{path} has {found.st_size} bytes, which is too much to be true")
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {_reason(error)}") from error


def is_file(path: Path) -> bool:
    """Whether a regular file is there. Unlike Path.is_file it never raises: a link may say
    anything."""
    return os.path.isfile(path)  # noqa: PTH113


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
