"""Every key and what it does, as the classes declare it; it knows no instance of any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import key_to_character
from textual.widgets import TextArea

from tui.screens.main import MainScreen
from tui.widgets.prompt import Prompt
from tui.widgets.token_view import TokenView

PLACES: dict[str, tuple[type[DOMNode], ...]] = {
    "everywhere": tuple(part for part in MainScreen.__mro__ if part.__module__.startswith("tui.")),
    "in the text": (TokenView,),
    "in the prompt": (Prompt,),
}


@dataclass(frozen=True)
class Key:
    """One action and the keys that it has without preferences."""

    place: str
    id: str
    keys: str
    """With commas between."""
    action: str
    description: str
    priority: bool
    """Whether it acts before the widget that has the focus."""


def catalogue() -> list[Key]:
    """All actions that have a key."""
    return [
        Key(
            place,
            binding.id or "",
            binding.key,
            binding.action,
            binding.description,
            binding.priority,
        )
        for place, classes in PLACES.items()
        for each in classes
        for binding in each.__dict__.get("BINDINGS", ())
        if isinstance(binding, Binding)
    ]


def key_problems(chosen: Mapping[str, str]) -> list[str]:
    """What is wrong with keys that a person has chosen, a sentence each."""
    known = catalogue()
    ids = {key.id for key in known} | {"quit"}
    problems = [f"there is no action {name!r} to give a key to" for name in chosen.keys() - ids]
    for place in PLACES:
        taken: dict[str, str] = {}
        for key in known:
            if key.place != place:
                continue
            for name in _names(key, chosen):
                if name in taken and (key.id in chosen or taken[name] in chosen):
                    problems.append(f"{name} {place} is chosen for {taken[name]} and {key.id}")
                taken[name] = key.id
    for key in known:
        if key.place == "everywhere" and not key.priority and key.id in chosen:
            problems += [
                f"{name} is the prompt's own key, so it is no key of {key.id} while you write there"
                for name in _names(key, chosen)
                if name in _prompts_own(key, chosen)
                or (key_to_character(name) or "\0").isprintable()
            ]
    return problems


def _names(key: Key, chosen: Mapping[str, str]) -> list[str]:
    """The keys of an action."""
    return [name.strip() for name in chosen.get(key.id, key.keys).split(",")]


def _prompts_own(key: Key, chosen: Mapping[str, str]) -> set[str]:
    """Keys that do something in the prompt, and something else than this one."""
    own = {each.key for each in Binding.make_bindings(TextArea.BINDINGS)}
    for other in catalogue():
        if other.place == "in the prompt" and other.id != f"prompt.{key.id}":
            own.update(_names(other, chosen))
    return own
