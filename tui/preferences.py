"""A person's lasting choices: one TOML file, read at the start; no widgets.

People edit the file by hand: a bad value is skipped and named, and saving changes only the values
that were chosen since.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gpt import text_file
from gpt.errors import UserError
from gpt.typed_values import Check, is_flag, is_number, is_text
from tui.atomic import write
from tui.servers import Server, read_server

LARGEST = 2**16
"""Most bytes of a file that are read."""
_MANY = 5
"""Most problems that are listed one by one."""
HEAT_MAPS = ("theme", "colour-blind", "monochrome")


@dataclass(frozen=True)
class Preferences:
    """The usable values of the file."""

    theme: str = "textual-dark"
    """Name of a theme of Textual."""
    heat_map: str = "theme"
    """One of HEAT_MAPS."""
    marks: bool = False
    """Show heat also without colour: underlined, bold, or both."""
    copy_on_select: bool = True
    """Copy tokens that are selected with the mouse or with Shift."""
    settings: Mapping[str, float] = field(default_factory=dict)
    """Name of a sampling setting → its value at the start."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Id of an action → its keys, separated by commas."""
    servers: Mapping[str, Server] = field(default_factory=dict)
    """Name → a server that runs a model."""
    plain_http: tuple[str, ...] = ()
    """Other machines' hosts that may be asked without encryption."""


class Chooser(Protocol):
    """Holds the preferences while the program runs: the application."""

    preferences: Preferences

    def prefer(self, **changes: Any) -> None:
        """Apply and save choices. A mapping replaces the whole old one."""


def path() -> Path:
    """settings.toml in $GPT_TUI_HOME or in the platform's configuration directory."""
    if root := os.environ.get("GPT_TUI_HOME"):
        return Path(root) / "settings.toml"
    import platformdirs

    return platformdirs.user_config_path("gpt-tui") / "settings.toml"


def load() -> tuple[Preferences, list[str]]:
    """The preferences, and a sentence for each problem in the file."""
    try:
        values = _values(_text())
    except _UNREADABLE as error:
        problem = f"cannot read {path()}, so the defaults are used: {error}"
        return Preferences(), [problem]
    servers, reasons = _servers(values.pop("servers", {}))
    good, bad = dict[str, Any](servers=servers), dict[str, Any]()
    for name, value in values.items():
        if name in _TABLES and isinstance(value, dict):
            good[name] = {key: item for key, item in value.items() if _TABLES[name](item)}
            bad |= {f"{name}.{key}": value[key] for key in value.keys() - good[name].keys()}
        elif name in _CHECKS and _CHECKS[name](value):
            good[name] = tuple(value) if isinstance(value, list) else value
        else:
            bad[name] = value
    problems = [
        f"{path().name}: {name[:80]} = {reprlib.repr(value)} is not valid and is ignored"
        for name, value in sorted(bad.items())
    ]
    problems += reasons
    if len(problems) > _MANY:
        problems[_MANY:] = [f"{path().name}: {len(problems) - _MANY} more values are not valid"]
    return Preferences(**good), problems


def _servers(values: object) -> tuple[dict[str, Server], list[str]]:
    """The servers of the file, and a sentence for each that cannot be used. It shows no values: a
    person may have written a key there."""
    if not isinstance(values, dict):
        return {}, [f"{path().name}: servers must have tables, such as [servers.name]"]
    good, problems = dict[str, Server](), list[str]()
    for name, each in values.items():
        try:
            good[name] = read_server(name, each)
        except UserError as error:
            problems.append(f"{path().name}: servers.{name[:80]} is ignored: {error}")
    return good, problems


def save(changes: Mapping[str, Any]) -> None:
    """Write these values into the file; the rest stays unchanged, comments too.

    A mapping is merged into its table; None in it removes a value.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        path().parent.mkdir(parents=True, exist_ok=True)
        _values(old := _text())  # stricter than tomlkit
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


def _values(text: str) -> dict[str, Any]:
    """TOML as plain values. Most people have no file, so the reader is only loaded for one."""
    if not text:
        return {}
    import tomllib

    return tomllib.loads(text)


_UNREADABLE = (UserError, ValueError, RecursionError)


def _text() -> str:
    """The text of the file; empty if there is no file."""
    return text_file.read_small(path(), LARGEST) if os.path.lexists(path()) else ""


_CHECKS: dict[str, Check] = {
    "theme": is_text,
    "heat_map": lambda value: value in HEAT_MAPS,
    "marks": is_flag,
    "copy_on_select": is_flag,
    "plain_http": lambda value: isinstance(value, list) and all(map(is_text, value)),
}
_TABLES: dict[str, Check] = {
    "settings": is_number(-(2.0**63), 2.0**63),
    "keys": lambda value: is_text(value) and bool(value.replace(",", " ").split()),
}
"""The check of each value in a table."""
