"""All keys, and how they are written; footer, help, palette and preferences all read them here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from textual.binding import Binding, BindingType
from textual.keys import format_key, key_to_character
from textual.widgets import TextArea

from gpt.sanitize import one_line
from tui.key import GROUPS, PLACES, Group, Key, Place
from tui.program_keys import EVERYWHERE, IN_THE_PROMPT, PALETTE, PROGRAM, QUIT
from tui.text_keys import IN_THE_TEXT

__all__ = ["GROUPS", "KEYS", "PALETTE", "PLACES", "PROGRAM", "QUIT", "Group", "Key", "Place"]

KEYS = (*EVERYWHERE, *IN_THE_TEXT, *IN_THE_PROMPT)
"""The keys of the main screen, in the order of the footer."""

_WRITTEN = {
    "escape": "Esc",
    "delete": "Del",
    "insert": "Ins",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
    "backspace": "Backspace",
    "enter": "Enter",
}
"""Names of Textual that a person writes in another way than with a capital letter."""


def bindings(place: Place) -> list[BindingType]:
    """The keys of a place, for BINDINGS of the class that acts there."""
    return [key.binding for key in KEYS if key.place == place]


def names(key: Key, chosen: Mapping[str, str]) -> list[str]:
    """Textual's names of an action's keys. chosen: id → keys that the person prefers."""
    return [name.strip() for name in chosen.get(key.id, key.keys).split(",")]


def written(name: str) -> str:
    """A key as a person writes it: "Ctrl+G", "Shift+→", "[", "Space", "F8", "Del"."""
    if len(name) == 1:
        return one_line(name)
    modifiers, _, last = name.rpartition("+")
    parts = [part.capitalize() for part in modifiers.split("+") if part]
    character = key_to_character(last) or ""
    shown = _WRITTEN.get(last) or (character if character.isprintable() else "").strip()
    shown = shown or format_key(last)
    if len(shown) > 1:
        shown = shown.capitalize() if shown == last else shown
    elif parts and shown.isascii() and shown.isalpha():
        # With another modifier, a capital letter is the only sign of Shift.
        parts += ["Shift"] * (shown.isupper() and "Shift" not in parts)
        shown = shown.upper()
    return one_line("+".join([*parts, shown]))


def written_together(keys: Sequence[str]) -> list[tuple[str, int | None]]:
    """Several keys in few characters, in parts: "1", "–", "9"; or "Shift+←", " ", "→".

    With each part comes the index of its key, or None if it is no key.
    """
    if not keys:
        return []
    if len(keys) > 2 and "".join(keys) in "123456789":
        return [(keys[0], 0), ("–", None), (keys[-1], len(keys) - 1)]
    modifiers = {key.rpartition("+")[0] for key in keys}
    shared = "".join(f"{part.capitalize()}+" for part in modifiers.pop().split("+") if part)
    parts: list[tuple[str, int | None]] = []
    for index, key in enumerate(keys):
        parts += [(" ", None)] if index else []
        is_short = index > 0 and not modifiers
        parts.append((written(key).removeprefix(shared if is_short else ""), index))
    return parts


def together(keys: Iterable[Key]) -> list[list[Key]]:
    """Keys that do the same thing in several ways: they have the same group and sentence."""
    found: dict[tuple[str, str], list[Key]] = {}
    for key in keys:
        found.setdefault((key.group, key.help or key.id), []).append(key)
    return list(found.values())


def unknown(chosen: Iterable[str]) -> set[str]:
    """Ids of keys that are not in the table."""
    return set(chosen) - {key.id for key in (*KEYS, *PROGRAM)}


def key_problems(chosen: Mapping[str, str], of_windows: Iterable[str] = ()) -> list[str]:
    """Problems with the keys that a person chose, one sentence each.

    of_windows: ids of keys that are not in the table.
    """
    problems = [
        f"there is no action {name!r}, so it cannot have a key"
        for name in unknown(chosen) - set(of_windows)
    ]
    for place in PLACES:
        taken: dict[str, str] = {}
        for key in KEYS:
            if key.place != place:
                continue
            for name in names(key, chosen):
                if name in taken and (key.id in chosen or taken[name] in chosen):
                    problems.append(
                        f"{written(name)} {place} is chosen for both {taken[name]} and {key.id}"
                    )
                taken[name] = key.id
    for key in KEYS:
        if key.place == "everywhere" and not key.priority and key.id in chosen:
            problems += [
                f"{written(name)} is the prompt's own key, so it cannot do {key.id} while you "
                "write there"
                for name in names(key, chosen)
                if name in _prompts_own(key, chosen)
                or (key_to_character(name) or "\0").isprintable()
            ]
    return problems


def _prompts_own(key: Key, chosen: Mapping[str, str]) -> set[str]:
    """Names of the keys that do something else than this one in the prompt."""
    own = {each.key for each in Binding.make_bindings(TextArea.BINDINGS)}
    for other in KEYS:
        if other.place == "in the prompt" and other.id != f"prompt.{key.id}":
            own.update(names(other, chosen))
    return own
