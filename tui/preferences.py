"""What a person has chosen for good: one file, read at the start; it knows no widget.

The file is theirs to edit: a value that cannot be used is left out and named, and saving changes
nothing but what was chosen anew.
"""

from __future__ import annotations

import os
import reprlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt import text_file
from gpt.checked import Check, is_flag, is_number, is_text
from gpt.errors import UserError
from tui.atomic import write

LARGEST = 2**16
"""Bytes of a file that is still read."""
_MANY = 5
"""Problems that are said one by one."""
HEAT_MAPS = ("theme", "colour-blind", "monochrome")


@dataclass(frozen=True)
class Preferences:
    """The file as far as it could be used."""

    theme: str = "textual-dark"
    """One of Textual's."""
    heat_map: str = "theme"
    """One of HEAT_MAPS."""
    marks: bool = False
    """Show heat by underlined, bold, and bold and underlined letters as well."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """What the dials begin with, by name."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Id of a binding → its keys, with commas between."""


def path() -> Path:
    """settings.toml in GPT_TUI_HOME or in the platform's directory for configuration."""
    if root := os.environ.get("GPT_TUI_HOME"):
        return Path(root) / "settings.toml"
    import platformdirs

    return platformdirs.user_config_path("gpt-tui") / "settings.toml"


def load() -> tuple[Preferences, list[str]]:
    """What the file says, and what of it could not be used, a sentence each."""
    try:
        values = tomllib.loads(_text())
    except _UNREADABLE as error:
        problem = f"{path()} cannot be read, so nothing of it holds: {error}"
        return Preferences(), [problem]
    good, bad = dict[str, Any](), dict[str, Any]()
    for name, value in values.items():
        if name in _TABLES and isinstance(value, dict):
            good[name] = {key: item for key, item in value.items() if _TABLES[name](item)}
            bad |= {f"{name}.{key}": value[key] for key in value.keys() - good[name].keys()}
        elif name in _CHECKS and _CHECKS[name](value):
            good[name] = value
        else:
            bad[name] = value
    problems = [
        f"{path().name}: {name[:80]} = {reprlib.repr(value)} makes no sense and is left out"
        for name, value in sorted(bad.items())
    ]
    if len(problems) > _MANY:
        problems[_MANY:] = [f"{path().name}: {len(problems) - _MANY} more values make no sense"]
    return Preferences(**good), problems


def save(changes: Mapping[str, Any]) -> None:
    """Put these values into the file; all else in it stays as it is, comments too.

    A mapping is merged into its table, or takes the place of what is not a table; None in it takes
    a value out. Raises UserError if the file cannot be written, or read as it is.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        path().parent.mkdir(parents=True, exist_ok=True)
        tomllib.loads(old := _text())  # it refuses more than tomlkit does
        document = tomlkit.parse(old)
        for name, value in changes.items():
            if not isinstance(value, Mapping):
                document[name] = value
                continue
            if not isinstance(document.get(name), Mapping):
                document[name] = tomlkit.table()
            table = document[name]
            for key, item in value.items():
                if item is None:
                    table.pop(key, None)
                else:
                    table[key] = item
        write(path(), [tomlkit.dumps(document)])
    except (OSError, *_UNREADABLE, TOMLKitError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"cannot save settings in {path()}: {reason}") from error


_UNREADABLE = (UserError, ValueError, RecursionError)


def _text() -> str:
    """Of the file; empty if there is none. Raises UserError."""
    return text_file.read_small(path(), LARGEST) if os.path.lexists(path()) else ""


_CHECKS: dict[str, Check] = {
    "theme": is_text,
    "heat_map": lambda value: value in HEAT_MAPS,
    "marks": is_flag,
}
_TABLES: dict[str, Check] = {
    "settings": is_number(-(2.0**63), 2.0**63),
    "keys": lambda value: is_text(value) and bool(value.replace(",", " ").split()),
}
"""Of each value in them."""
