"""The table of keys; footer, help, palette, key map and preferences all read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from textual.binding import Binding, BindingType
from textual.keys import key_to_character
from textual.widgets import TextArea

from tui.heat import FORKS

Place = Literal["everywhere", "in the text", "in the prompt"]
PLACES: tuple[Place, ...] = ("everywhere", "in the text", "in the prompt")


@dataclass(frozen=True)
class Key:
    """One action and its default keys."""

    id: str
    """Name in the preferences file."""
    keys: str
    """Separated by commas."""
    action: str
    description: str
    place: Place = "everywhere"
    show: bool = False
    """Whether the footer shows it."""
    priority: bool = False
    """Whether it acts before the widget that has the focus."""
    display: str | None = None
    """How the footer writes the key, if not by its name."""
    label: str = ""
    """What the footer calls the action, if not by its description."""

    @property
    def binding(self) -> Binding:
        """The same as a binding of Textual."""
        return Binding(
            self.keys,
            self.action,
            self.label or self.description,
            show=self.show,
            key_display=self.display,
            priority=self.priority,
            id=self.id,
            tooltip=self.description if self.label else "",
        )


QUIT = Key("quit", "ctrl+q", "quit", "quit", show=True, priority=True)
"""Belongs to the program and acts on every screen."""

_EVERYWHERE = (
    Key("models", "ctrl+o", "models", "models", show=True),
    Key("restart", "ctrl+r", "restart", "restart the engine if it crashed"),
    Key("what_if", "f8", "what_if", "what if: the same random seed with these settings"),
    Key(
        "waterfall",
        "f2",
        "waterfall",
        "how each setting changes the odds",
        show=True,
        label="odds",
    ),
    Key("preset", "f9", "preset", "next preset of the sampling settings"),
    Key("measures", "f5", "lines", "numbers of each line"),
    Key("go_on", "ctrl+g", "go_on", "continue from here", show=True, label="continue"),
    Key("next_branch", "ctrl+b", "branch(1)", "next branch", show=True),
    Key("tree", "ctrl+t", "tree", "tree of branches"),
    Key("texts", "f3", "texts", "texts", show=True),
    Key("export", "f4", "export", "export"),
    Key("stop", "escape", "home", "stop", show=True),
    Key("interrupt", "ctrl+c", "interrupt", "stop", priority=True),
    Key("new_text", "ctrl+n", "new_text", "new text", show=True),
    Key("help", "f1", "app.toggle_help", "help"),
    # TextArea has these two keys for itself, so they need priority.
    Key("preferences", "f6", "preferences", "preferences", priority=True),
    Key("editor", "f7", "editor", "edit the prompt in your editor", priority=True),
    Key("jump", "ctrl+l", "jump", "jump to a part of the screen"),
    Key("page_up", "pageup", "page(-1)", "page up"),
    Key("page_down", "pagedown", "page(1)", "page down"),
)


def _text_key(name: str, keys: str, action: str, description: str) -> Key:
    return Key(f"text.{name}", keys, action, description, "in the text")


_MOVES = (
    ("left", "move(-1)", "previous token", "previous token", "back"),
    ("right", "move(1)", "next token", "next token", "on"),
    ("up", "move_row(-1)", "row up", "row up", "up"),
    ("down", "move_row(1)", "row down", "row down", "down"),
    ("home", "select(0)", "first token", "to the first token", "first"),
    ("end", "newest", "newest token", "to the newest token", "newest"),
)
"""Key, action, description, description of selecting with Shift, name."""

_IN_THE_TEXT = (
    *(_text_key(name, key, action, what) for key, action, what, _, name in _MOVES),
    *(
        _text_key(f"select_{name}", f"shift+{key}", f"extend({action!r})", f"select: {what}")
        for key, action, _, what, name in _MOVES
    ),
    _text_key("delete", "delete", "screen.delete", "delete from here"),
    _text_key("undo", "z", "screen.undo", "undo the deletion"),
    _text_key("instead", "i", "screen.replace", "replace…"),
    _text_key("last", "left_square_bracket", "screen.branch(-1)", "previous branch"),
    _text_key("next", "right_square_bracket", "screen.branch(1)", "next branch"),
    _text_key("mark", "m", "screen.mark", "bookmark"),
    _text_key("next_mark", "b", "screen.next_mark", "next bookmark"),
    _text_key("tree", "t", "screen.tree", "tree of branches"),
    _text_key("ban", "x", "screen.ban", "ban this token"),
    _text_key("boost", "plus", "screen.boost(1)", "make this token more likely"),
    _text_key("damp", "minus", "screen.boost(-1)", "make this token less likely"),
    _text_key("copy", "y", "screen.copy", "copy the text"),
    _text_key("search", "slash", "screen.search", "search"),
    _text_key("found", "n", "screen.found(1)", "next match"),
    _text_key("found_last", "N", "screen.found(-1)", "previous match"),
    _text_key("inside", "e", "screen.layers", "layers: each layer's guess (logit lens)"),
    _text_key("owes", "E", "screen.attribution", "which earlier tokens mattered"),
    _text_key("paths", "p", "screen.paths", "likely continuations (beam search)"),
    _text_key("compare", "v", "screen.compare", "compare with a second model"),
    _text_key("what_if_beside", "w", "screen.what_if_second", "what a second model would write"),
    _text_key("options", "k", "screen.options", "compare continuations"),
    _text_key("colours", "c", "colours", "change colouring"),
    *(
        _text_key(
            f"{way}_{name}",
            key,
            f"fork({kind!r}, {by})",
            f"{'next' if by > 0 else 'previous'} {kind}",
        )
        for pair, name, kind in zip(
            ("uU", "oO", "sS"), ("uncertain", "other_choice", "surprise"), FORKS, strict=True
        )
        for key, by, way in ((pair[0], 1, "next"), (pair[1], -1, "last"))
    ),
    *(
        _text_key(f"take_{n}", str(n), f"screen.take({n})", f"take candidate {n}")
        for n in range(1, 10)
    ),
)

_IN_THE_PROMPT = (
    Key("prompt.send", "enter", "send", "send", "in the prompt", show=True),
    Key(
        "prompt.line_break",
        "ctrl+j,shift+enter,alt+enter",
        "line_break",
        "line break",
        "in the prompt",
        show=True,
        display="^j",
    ),
    Key("prompt.page_up", "pageup", "page(-1)", "page up", "in the prompt"),
    Key("prompt.page_down", "pagedown", "page(1)", "page down", "in the prompt"),
)

KEYS = (*_EVERYWHERE, *_IN_THE_TEXT, *_IN_THE_PROMPT)
"""All keys, in the order of the footer."""


def bindings(place: Place) -> list[BindingType]:
    """The keys of a place, for BINDINGS of the class that acts there."""
    return [key.binding for key in KEYS if key.place == place]


def key_problems(chosen: Mapping[str, str]) -> list[str]:
    """Problems with the keys that a person chose, one sentence each."""
    ids = {key.id for key in (*KEYS, QUIT)}
    problems = [
        f"there is no action {name!r}, so it cannot have a key" for name in chosen.keys() - ids
    ]
    for place in PLACES:
        taken: dict[str, str] = {}
        for key in KEYS:
            if key.place != place:
                continue
            for name in _names(key, chosen):
                if name in taken and (key.id in chosen or taken[name] in chosen):
                    problems.append(f"{name} {place} is chosen for both {taken[name]} and {key.id}")
                taken[name] = key.id
    for key in KEYS:
        if key.place == "everywhere" and not key.priority and key.id in chosen:
            problems += [
                f"{name} is the prompt's own key, so it cannot do {key.id} while you write there"
                for name in _names(key, chosen)
                if name in _prompts_own(key, chosen)
                or (key_to_character(name) or "\0").isprintable()
            ]
    return problems


def _names(key: Key, chosen: Mapping[str, str]) -> list[str]:
    """The names of an action's keys."""
    return [name.strip() for name in chosen.get(key.id, key.keys).split(",")]


def _prompts_own(key: Key, chosen: Mapping[str, str]) -> set[str]:
    """Names of the keys that do something else than this one in the prompt."""
    own = {each.key for each in Binding.make_bindings(TextArea.BINDINGS)}
    for other in KEYS:
        if other.place == "in the prompt" and other.id != f"prompt.{key.id}":
            own.update(_names(other, chosen))
    return own
