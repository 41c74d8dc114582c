"""Reads texts and small files, without trusting what they contain."""

from __future__ import annotations

import codecs
import os
import stat
import sys
from pathlib import Path

from gpt.errors import UserError

LIMIT = 1 << 31
"""Bytes in the largest text that is read."""
# Byte order marks, which editors on Windows write at the start of a text, and its encoding.
_ENCODINGS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read(path: Path) -> str:
    """The text in a file or a named pipe, as `decode` returns it."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            raise UserError(f"{path} is a device and not a text file")
        if stat.S_ISDIR(mode):
            raise UserError(f"{path} is a directory; name a text file in it")
        with path.open("rb") as file:
            return decode(file.read(LIMIT + 1), str(path))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {_reason(error)}") from error


def read_stdin() -> str:
    """The text on stdin, as `decode` returns it. In a terminal, stderr says how to end it."""
    say_if_typed("a text")
    try:
        data = sys.stdin.buffer.read(LIMIT + 1)
    except OSError as error:
        raise UserError(f"cannot read stdin: {error.strerror}") from error
    return decode(data, "stdin")


def say_if_typed(what: str) -> None:
    """Say on stderr what is read from stdin and how to end it, if a person has to type it."""
    if sys.stdin.isatty() and sys.stderr:
        end = "Ctrl+Z and Enter" if os.name == "nt" else "Ctrl+D on an empty line"
        print(f"reading {what} from the keyboard; {end} ends it", file=sys.stderr)


def decode(data: bytes, source: str) -> str:
    """UTF-8, or UTF-16 with a byte order mark → text in which lines end with a line feed.

    source: name of the file or pipe for error messages.
    """
    if len(data) > LIMIT:
        raise UserError(f"{source} is larger than {LIMIT >> 30} GiB")
    encoding = next((name for mark, name in _ENCODINGS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        place = 0 if encoding == "utf-16" else error.start
        raise UserError(f"{source} is not UTF-8 text (byte {place}); save it as UTF-8") from error
    if "\0" in text:
        raise UserError(f"{source} is not text: it has a NUL (character {text.index(chr(0))})")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_small(path: Path, limit: int) -> str:
    """The UTF-8 text in a regular file of at most `limit` bytes, without a byte order mark.

    Pipes and devices are not opened, because they might never end.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise UserError(f"{path} is not a regular file")
        if found.st_size > limit:
            raise UserError(f"{path} has {found.st_size} bytes; at most {limit} are read")
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {_reason(error)}") from error


def is_file(path: Path) -> bool:
    """Whether the path is a regular file. Unlike Path.is_file it never raises, whatever a link
    says."""
    return os.path.isfile(path)  # noqa: PTH113


def _reason(error: Exception) -> str:
    """The cause in words, without the path."""
    return getattr(error, "strerror", None) or str(error)
