"""Opens a text in the person's own editor; no screen."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from gpt import text_file
from gpt.errors import UserError

LARGEST = 2**24
"""Most bytes of a text that are read back from an editor."""


def edit(text: str) -> str:
    """Edit a text with the program in VISUAL or EDITOR; it uses the terminal.

    The line break at the end of the file is not part of the text. Raises UserError if there is no
    editor, or if it fails.
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
            raise UserError(f"{name} is {value}, which is not a command: {error}") from error
        if command and command[0]:
            return command
    raise UserError("no editor is set; start with: EDITOR=nano gpt-tui")
