"""A text in the person's own editor; it knows no screen."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from gpt import text_file
from gpt.errors import UserError

LARGEST = 2**24
"""Bytes of a text that is taken from an editor."""


def edit(text: str) -> str:
    """What the editor of VISUAL or EDITOR makes of a text; the terminal must be free for it.

    Its line break at the end of the file is not part of the text. Raises UserError if there is
    no editor, or if it fails; the text is then as it was.
    """
    command = _command()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "prompt.txt"
        try:
            path.write_bytes(text.encode())
            status = subprocess.run([*command, path], check=False).returncode
            written = text_file.read_small(path, LARGEST)
        except (OSError, ValueError, UserError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"the editor {command[0]} did not work: {reason}") from error
        if status:
            raise UserError(f"the editor {command[0]} ended with status {status}")
        return written.replace("\r\n", "\n").removesuffix("\n")


def _command() -> list[str]:
    for name in ("VISUAL", "EDITOR"):
        value = os.environ.get(name, "")
        try:
            command = shlex.split(value)
        except ValueError as error:
            raise UserError(f"{name} is {value}, which is no command: {error}") from error
        if command and command[0]:
            return command
    raise UserError("name your editor in the environment: EDITOR=nano gpt-tui")
