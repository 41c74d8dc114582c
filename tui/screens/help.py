"""The help: all keys, the sampling settings and the glossary, with a search over them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from textual import events, getters, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.errors import NoWidget
from textual.screen import Screen
from textual.widgets import Input, OptionList

from gpt.sanitize import one_line
from tui.commands import Command, by_group, field_commands, key_commands
from tui.glossary import TERMS, term
from tui.inside.about import KEYS as INSIDE
from tui.keys import KEYS, PROGRAM, written_together
from tui.labels import capital
from tui.lookup import find
from tui.possible import Refusal
from tui.screens.dialog import Dialog
from tui.widgets.field import Field
from tui.widgets.topics import Row, Topic, Topics

HERE, SETTINGS, WORDS = "Here", "Settings", "Glossary"
"""Sections besides the groups of keys."""
_CLOSE_FIRST = Refusal("Close the window in front first; Esc does that.")


class HelpScreen(Dialog[Command | None]):
    """Returns the command that was chosen, or None."""

    DEFAULT_CSS = """
    HelpScreen {
        align: center middle;

        Vertical {
            width: 132;
            max-width: 100%;
            height: 92%;
            border: round $border;
            border-subtitle-color: $text-muted;
            padding: 0 1;
            background: $background;
        }

        Field, Field:focus {
            height: 3;
            border: round $border;
            background: $background;
        }

        &.-low Vertical {
            height: 100%;
            max-width: 100%;
        }

        &.-low Field, &.-low Field:focus {
            height: 1;
            border: none;
            padding: 0;
        }
    }
    """
    VERTICAL_BREAKPOINTS = [(0, "-low"), (22, "-high")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "close", id="help.close"),
        *(
            Binding(keys, f"move({where!r})", show=False)
            for keys, where in (
                ("up", "cursor_up"),
                ("down", "cursor_down"),
                ("pageup", "page_up"),
                ("pagedown", "page_down"),
                ("ctrl+home", "first"),
                ("ctrl+end", "last"),
            )
        ),
    ]

    field = getters.query_one(Field)

    def __init__(self, term: str = "") -> None:
        """term: what to look for at first, such as a word of the glossary."""
        super().__init__()
        self._wanted = term
        self._topics: list[Topic] = []
        self._query: str | None = None
        """What the rows answer; None before there are any."""

    @property
    def topics(self) -> Topics:
        """The rows."""
        return self.query_one(Topics)

    def compose(self) -> ComposeResult:
        """The field above the rows."""
        with Vertical() as panel:
            panel.border_title = "Help"
            panel.border_subtitle = Content("  ").join(
                (
                    Content("Enter: run it").stylize("@click=screen.choose"),
                    Content("Esc: close").stylize("@click=screen.dismiss(None)"),
                )
            )
            yield Field(self._wanted, placeholder="Type to find a key, a setting or a word…")
            yield Topics()

    def on_mount(self) -> None:
        """Collect the topics of the screen below."""
        stack = self.app.screen_stack
        if self not in stack:  # the program ends
            return
        below = stack[stack.index(self) - 1]
        self._topics = [
            *_here(below),
            *_keys(below, stack[0]),
            *_settings(below, stack[0]),
            *_words(),
        ]
        self._query = None
        self._fill()

    def look_for(self, words: str) -> None:
        """Show what answers these words."""
        self.field.value = words
        self.field.focus()

    @on(Input.Changed)
    def _fill(self) -> None:
        """Show the topics that answer the field, if it has changed: the most relevant first."""
        if not self.query(Topics):  # the screen is closing
            return
        if (query := self.field.value.strip()) == self._query:
            return
        self._query = query
        topics = [topic for _, topic in find(query, self._topics)] if query else self._topics
        # A word's meaning comes before the keys that have to do with it.
        if term(query) or term(query.removesuffix("s")):
            topics = sorted(topics, key=lambda topic: topic.section != WORDS)
        self.topics.show(topics)

    def action_move(self, where: str) -> None:
        """Move the highlight: the name of an action of the list."""
        self._fill()  # the key may come before the message of the last letter
        getattr(self.topics, f"action_{where}")()

    @on(Input.Submitted)
    def action_choose(self) -> None:
        """Choose the highlighted row."""
        self._fill()
        self.topics.action_select()

    @on(OptionList.OptionSelected)
    def _chosen(self, event: OptionList.OptionSelected) -> None:
        """Run the command of the row, or say why not; for a word, show what it is about."""
        assert isinstance(event.option, Row)  # noqa: S101
        topic = event.option.topic
        if topic.section == WORDS:
            self.look_for(topic.name)
        elif command := topic.command:
            if refused := command.refused():
                self.notify(refused.reason, severity=refused.severity, markup=False)
            else:
                self.dismiss(command)

    def on_click(self, event: events.Click) -> None:
        """A click outside the window closes it."""
        with suppress(NoWidget):  # the window may have become smaller since
            if self.get_widget_at(event.screen_x, event.screen_y)[0] is self:
                self.dismiss(None)


def _here(screen: Screen[Any]) -> Iterator[Topic]:
    """The keys of a window, or of the widget that has the focus.

    A window may say with which one to begin: the one whose sentence says what is on the screen.
    """
    known = {key.id for key in (*KEYS, *PROGRAM)} | {"dialog.help"}
    begins_with = getattr(screen, "help_begins_with", "")
    found: dict[str, list[Command]] = {}
    for name, active in screen.active_bindings.items():
        binding = active.binding
        if binding.id and binding.id not in known:
            run = partial(screen.app.run_action, binding.action, active.node)
            said = binding.tooltip or INSIDE.get(binding.id, "")
            command = Command(capital(one_line(binding.description)), said, run, keys=(name,))
            found.setdefault(said or binding.id, []).append(command)
            if binding.id == begins_with:
                found = {said: found.pop(said), **found}
    for commands in found.values():
        yield _topic(HERE, commands)


def _keys(below: Screen[Any], main: Screen[Any]) -> Iterator[Topic]:
    """The keys of the table; those of the main screen wait until a window above it is closed."""
    commands = list(key_commands(below))
    if below is not main:
        own = {command.key for command in commands}
        commands += [
            replace(command, refused=lambda: _CLOSE_FIRST)
            for command in key_commands(main)
            if command.key not in own
        ]
    for group, parts in by_group(commands).items():
        for part in parts:
            yield _topic(group, part)


def _settings(below: Screen[Any], main: Screen[Any]) -> Iterator[Topic]:
    """The sampling settings; Enter goes to the field, if no window is above the main screen."""
    for command in field_commands(main):
        waits = command if below is main else replace(command, refused=lambda: _CLOSE_FIRST)
        yield _topic(SETTINGS, [waits])


def _topic(section: str, commands: Sequence[Command]) -> Topic:
    """A row for commands that belong together."""
    first = commands[0]
    names = list(dict.fromkeys(name for command in commands for name in command.keys))
    return Topic(
        section,
        capital(first.key.words) if first.key and len(commands) > 1 else first.name,
        first.sentence,
        " ".join(f"{command.synonyms} {command.name}" for command in commands),
        "".join(text for text, _ in written_together(names)),
        tuple(key for command in commands for key in command.written),
        tuple(commands),
    )


def _words() -> Iterator[Topic]:
    for each in TERMS:
        yield Topic(WORDS, each.name, each.meaning, each.synonyms, source=each.source)
