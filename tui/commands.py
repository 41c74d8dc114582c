"""Everything that a person can choose by name: actions, settings, themes, words; and the palette.

Which-key, help and palette show the same commands, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

from textual import actions
from textual.actions import ActionParseResult
from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.dom import DOMNode
from textual.markup import escape
from textual.screen import Screen

from gpt.sanitize import one_line
from gpt.setting_names import setting_name
from tui.dials import MORE
from tui.glossary import TERMS
from tui.keys import (
    GROUPS,
    KEYS,
    PALETTE,
    PROGRAM,
    Group,
    Key,
    Place,
    names,
    together,
    written,
)
from tui.labels import capital
from tui.lookup import find
from tui.possible import Refusal
from tui.preferences import Preferences

_WHERE: dict[Place, str] = {"in the text": "TokenView", "in the prompt": "Prompt"}
"""Place → the widget that has its keys; keys without an entry belong to the screen."""
_SYNONYMS = {
    "seed": "random dice noise repeat same",
    "length": "most max tokens number how long",
    "branches": "several many texts at once parallel continuations samples number",
    "banned": "ban word forbid block never exclude bias",
    "boosted": "boost word bias logit likely encourage",
    "slide": "context full window sliding forget oldest go on continue",
    "system": "system prompt instruction role",
}
"""Field → more words by which people look for a setting."""
_LATER = 1.5
"""What the relevance of a word of the glossary is divided by, unless somebody asks for it."""
_LAST = 1000.0
"""What an impossible command's relevance is divided by."""


class Program(Protocol):
    """What commands ask of the application."""

    preferences: Preferences

    def refused(self, action: ActionParseResult, target: DOMNode | None) -> Refusal | None:
        """The reason against an action now; None if it is possible."""

    def refuse(self, refused: Refusal) -> None:
        """Say why something is not done, until the next key."""

    def take_back(self, refused: Refusal) -> None:
        """End the message that said so: it is no longer true."""

    async def run_action(self, action: ActionParseResult, target: DOMNode | None) -> bool:
        """Run an action, or say why it is not possible now."""

    def search_themes(self) -> None:
        """Show all themes in a list."""

    def action_picture(self) -> None:
        """Save the screen as a picture."""

    def action_help(self, term: str = "") -> None:
        """Show the help, at a term of the glossary."""


@dataclass(frozen=True)
class Command:
    """Something that a person can choose."""

    name: str
    sentence: str
    run: Callable[[], object]
    synonyms: str = ""
    keys: tuple[str, ...] = ()
    """Textual's names of its keys."""
    key: Key | None = None
    """Its row in the table of keys."""
    refused: Callable[[], Refusal | None] = lambda: None
    """Returns the reason against it now."""

    @property
    def written(self) -> list[str]:
        """Its keys, as a person writes them."""
        return [written(name) for name in self.keys]


def key_commands(screen: Screen[Any]) -> Iterator[Command]:
    """The actions of all keys that this screen and its widgets have."""
    app = cast(Program, screen.app)
    for key in (*KEYS, *PROGRAM):
        place, name, parameters = actions.parse(key.action)
        target = {"screen": screen, "app": screen.app}.get(place, _owner(screen, key.place))
        if any(hasattr(target, f"{kind}action_{name}") for kind in ("", "_")):
            action = "", name, parameters
            yield Command(
                capital(key.description),
                key.help,
                partial(app.run_action, action, target),
                key.synonyms,
                tuple(names(key, app.preferences.keys)),
                key,
                partial(app.refused, action, target),
            )


def _owner(screen: Screen[Any], place: Place) -> DOMNode | None:
    """The widget that has the keys of a place: the focused one if there are several."""
    if place not in _WHERE:
        return screen
    found = list(screen.query(_WHERE[place]))
    return next((each for each in found if each.has_focus), found[0] if found else None)


def by_group(commands: Iterable[Command]) -> dict[Group, list[list[Command]]]:
    """Commands with keys, by group; those whose keys belong together are in one list.

    The short keys of the text come first.
    """
    keyed = [(command.key, command) for command in commands if command.key]
    of = dict(sorted(keyed, key=lambda pair: pair[0].place != "in the text"))
    found: dict[Group, list[list[Command]]] = {group: [] for group in GROUPS}
    for keys in together(of):
        found[keys[0].group].append([of[key] for key in keys])
    return {group: parts for group, parts in found.items() if parts}


def field_commands(screen: Screen[Any]) -> Iterator[Command]:
    """Going to each sampling setting."""
    for field in screen.query("Controls Input, Controls Checkbox"):
        if field.id and not field.has_class("more"):
            tick = one_line(str(getattr(field, "label", "")))
            name = f"Tick: {tick}" if tick else f"Set {setting_name(field.id)}"
            tip = one_line(str(field.tooltip or "go to this field")).removesuffix(".")
            words = f"{field.id.replace('_', '')} {_SYNONYMS.get(field.id, '')}"
            yield _field_command(screen, field.id, name, f"In the Sampling panel: {tip}.", words)
    if hasattr(screen, "action_set"):
        for knob in MORE:
            said = f"In the Sampling panel, under More: {knob.tip}."
            words = knob.name.replace("_", " ")
            yield _field_command(screen, knob.name, f"Set {knob.label}", said, words)


def _field_command(screen: Screen[Any], field: str, name: str, said: str, words: str) -> Command:
    run = partial(screen.run_action, f"set({field!r})")
    return Command(name, said, run, f"{words} setting field change")


def program_commands(screen: Screen[Any]) -> Iterator[Command]:
    """What belongs to the program and has no key."""
    app = cast(Program, screen.app)
    yield Command(
        "Change theme: dark or light",
        "Theme: choose the colours of the program; the list shows all of them.",
        app.search_themes,
        "colours colors appearance background style",
    )
    if hasattr(screen, "action_order"):
        action = "", "order", ()
        yield Command(
            "Order of the sampling settings",
            "Sampling settings: choose which one acts first.",
            partial(app.run_action, action, screen),
            "sampler order stages sequence before after temperature last move dry xtc",
            refused=partial(app.refused, action, screen),
        )
    if hasattr(screen, "action_reset_settings"):
        yield Command(
            "Reset the sampling settings",
            "Sampling settings: back to those that the program starts with, without banned and "
            "boosted words; seed, length and branches stay.",
            partial(app.run_action, ("", "reset_settings", ()), screen),
            "restore default defaults start clear all undo",
        )
    if not screen.app.is_web:  # in a browser the file would be on the wrong machine
        yield Command(
            "Screenshot",
            "Save a picture of the screen as an SVG file.",
            app.action_picture,
            "picture image capture svg save photo",
        )


def theme_commands(screen: Screen[Any]) -> Iterator[Command]:
    """Each theme."""
    app = screen.app
    for name, theme in sorted(app.available_themes.items()):
        kind = "dark" if theme.dark else "light"
        yield Command(
            f"Theme: {one_line(name)}",
            f"Use this {kind} theme.",
            partial(setattr, app, "theme", name),
            "colours colors",
        )


def term_commands(screen: Screen[Any]) -> Iterator[Command]:
    """Reading about each word of the glossary."""
    app = cast(Program, screen.app)
    for term in TERMS:
        yield Command(
            f"What “{term.name}” means",
            term.meaning,
            partial(app.action_help, term.name),
            f"{term.synonyms} what is meaning glossary",
        )


class Commands(Provider):
    """The palette's commands; those that are not possible now come last, with the reason."""

    async def startup(self) -> None:
        """Collect the commands of the screen below the palette."""
        screen = self.screen
        self._shown = [
            *(each for each in key_commands(screen) if each.key is not PALETTE),
            *field_commands(screen),
            *program_commands(screen),
        ]
        self._terms = list(term_commands(screen))
        self._found_only = [*theme_commands(screen), *self._terms]

    async def discover(self) -> Hits:
        """Everything that can be done here."""
        for command, refused in _possible_first(self._shown):
            yield DiscoveryHit(
                _title(command, refused, ()),
                command.run,
                text=command.name,
                help=_explanation(command, refused),
            )

    async def search(self, query: str) -> Hits:
        """Commands, themes and words that answer the query."""
        asks = query.lower().startswith("what")
        meanings = () if asks else {command.name for command in self._terms}
        for score, command in find(query, [*self._shown, *self._found_only]):
            refused = command.refused()
            yield Hit(
                score / (_LAST if refused else _LATER if command.name in meanings else 1),
                _title(command, refused, query.split(), self.match_style or "underline"),
                command.run,
                text=command.name,
                help=_explanation(command, refused),
            )


def _possible_first(commands: Iterable[Command]) -> list[tuple[Command, Refusal | None]]:
    found = [(command, command.refused()) for command in commands]
    return sorted(found, key=lambda pair: pair[1] is not None)


def _title(
    command: Command, refused: Refusal | None, words: Iterable[str], style: Any = ""
) -> Content:
    """The name with the words that were found, and the keys."""
    name = Content(command.name)
    for word in words:
        start = command.name.lower().find(word.lower())
        if start >= 0:
            name = name.stylize(style, start, start + len(word))
    keys = Content("  ").join(Content(key) for key in command.written)
    title = Content.assemble(name, "  ", keys.stylize("$text-accent not bold"))
    return title.stylize("dim") if refused else title


def _explanation(command: Command, refused: Refusal | None) -> str:
    said = f"Not now: {refused.reason}" if refused else command.sentence
    return escape(one_line(said))
