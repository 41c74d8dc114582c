"""Write docs/keys.md again, from the table of keys.

.venv/bin/python docs/keys.py
"""

from __future__ import annotations

from pathlib import Path

from textual.binding import Binding

from tui.keys import (
    GROUPS,
    KEYS,
    PLACES,
    PROGRAM,
    Key,
    Place,
    names,
    together,
    written,
    written_together,
)
from tui.window_keys import window_keys

HEAD = """# Keys

F1 shows the keys with a search over them, and a glossary. Space in the text
shows all keys that act there; the next key acts. Ctrl+P finds any command by a
part of its name, its sentence or a synonym. F6 changes any key. The line at the
foot shows the keys of the moment. Pressing a key that is not possible now shows
the reason.

"In the text" means that the text has the focus: press Tab in the prompt, or
click a token.

This page is generated from the table that the program uses.
"""
TAIL = """
`banned` and `boosted` in the settings accept whole words as well: `king` in
`banned`, `king:2` (nats) in `boosted`. `branches` in the settings is the number
of runs that start at the same place.
"""
WINDOWS = """
## In windows and panels

The name is what `settings.toml` calls the key, under `[keys]`.

| name | key | what it does |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    tables = (f"\n## {place.capitalize()}\n\n{_table(place)}" for place in PLACES)
    return "".join([HEAD, *tables, TAIL, WINDOWS, *map(_row, window_keys())])


def _row(binding: Binding) -> str:
    keys = " ".join(f"`{written(name.strip())}`" for name in binding.key.split(","))
    return f"| `{binding.id}` | {keys} | {binding.description} |\n"


def _table(place: Place) -> str:
    lines = ["| | key | what it does |", "|---|---|---|"]
    here = [key for key in (*KEYS, *PROGRAM) if key.place == place]
    for group in GROUPS:
        shown = f"**{group}**"
        for keys in together(key for key in here if key.group == group):
            lines.append(f"| {shown} | {_written(keys)} | {keys[0].help} |")
            shown = ""
    return "\n".join(lines) + "\n"


def _written(keys: list[Key]) -> str:
    pressed = [name for key in keys for name in names(key, {})]
    parts = written_together(pressed)
    return "".join(text if index is None else f"`{text}`" for text, index in parts)


if __name__ == "__main__":
    (Path(__file__).parent / "keys.md").write_text(page(), encoding="utf-8")
