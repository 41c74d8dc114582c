"""A text in the person's own editor; it knows no screen."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from gpt.errors import UserError


def edit(text: str) -> str:
    """What the editor of VISUAL or EDITOR makes of a text; the terminal must be free for it.

    Its line break at the end of the file is not part of the text. Raises UserError where there is
    no editor, or where it fails; the text is then as it was.
    """
    command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "")
    if not command:
        raise UserError("name your editor in the environment: EDITOR=nano gpt-tui")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "prompt.txt"
        path.write_text(text, encoding="utf-8")
        try:
            status = subprocess.run([*command, path], check=False).returncode
            written = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"the editor {command[0]} did not work: {error}") from error
        if status:
            raise UserError(f"the editor {command[0]} ended with status {status}")
        return written.removesuffix("\n")
