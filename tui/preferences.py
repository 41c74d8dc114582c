"""What a person has chosen for good: one file, read at the start; it knows no widget.

The file is theirs to edit: a value that cannot be used is left out and named, and saving changes
nothing but what was chosen anew.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gpt.errors import UserError
from tui.atomic import write

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
    preferences, problems = Preferences(), list[str]()
    try:
        values = tomllib.loads(path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return preferences, problems
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return preferences, [f"{path()} cannot be read, so nothing of it holds: {reason}"]
    for name, value in values.items():
        if name not in _CHECKS or not _CHECKS[name](value):
            problems.append(f"{path().name}: {name} = {value!r} makes no sense and is left out")
        else:
            preferences = replace(preferences, **{name: value})
    return preferences, problems


def save(changes: Mapping[str, Any]) -> None:
    """Put these values into the file; all else in it stays as it is, comments too.

    A mapping is merged into its table; None in it takes a value out. Raises UserError where the
    file cannot be written, or read as it is.
    """
    import tomlkit
    from tomlkit.exceptions import ParseError

    try:
        path().parent.mkdir(parents=True, exist_ok=True)
        old = path().read_text(encoding="utf-8") if path().exists() else ""
        document = tomlkit.parse(old)
        for name, value in changes.items():
            if not isinstance(value, Mapping):
                document[name] = value
                continue
            table = document.setdefault(name, tomlkit.table())
            for key, item in value.items():
                if item is None:
                    table.pop(key, None)
                else:
                    table[key] = item
        write(path(), [tomlkit.dumps(document)])
    except (OSError, ValueError, ParseError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UserError(f"cannot save settings in {path()}: {reason}") from error


def _is_numbers(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
        for number in value.values()
    )


def _is_keys(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(keys, str) and keys.replace(",", " ").split() for keys in value.values()
    )


_CHECKS = {
    "theme": lambda value: isinstance(value, str),
    "heat_map": lambda value: value in HEAT_MAPS,
    "marks": lambda value: isinstance(value, bool),
    "settings": _is_numbers,
    "keys": _is_keys,
}
