"""The table of formats, and writing a file in one of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gpt.errors import UserError
from tui.export.page import to_html
from tui.export.parts import Export
from tui.export.picture import to_svg
from tui.export.plain import to_json, to_markdown, to_text


@dataclass(frozen=True)
class Format:
    """A kind of file."""

    name: str
    made: Callable[[Export], str]


FORMATS = {
    ".txt": Format("Text", to_text),
    ".md": Format("Markdown", to_markdown),
    ".html": Format("HTML page", to_html),
    ".json": Format("JSON", to_json),
    ".svg": Format("SVG picture", to_svg),
}
"""The end of a file name → its format."""


def write(path: Path, export: Export) -> None:
    """Write a new file in the format that its name ends with."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        if path.name.lower() in FORMATS:
            raise UserError(f"type a name before {path.name}")
        raise UserError(f"the name {path.name} must end with one of {', '.join(FORMATS)}")
    text = kind.made(export)
    try:
        with ExitStack() as undo, path.open("x", encoding="utf-8", newline="") as file:
            undo.callback(path.unlink)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            undo.pop_all()
    except FileExistsError as error:
        raise UserError(f"{path} exists already; choose another name") from error
    except (OSError, ValueError) as error:  # ValueError: not a valid file name
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"cannot write {path}: {reason}") from error
