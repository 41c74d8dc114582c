"""The rows of the help: keys and words with their sentences, under headings."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.widgets.option_list import Option

from tui.commands import Command
from tui.widgets.option_rows import OptionRows

_KEYS_WIDTH, _NAME_WIDTH = 12, 24
_INDENT = 4
"""Columns before the meaning of a word."""
_WIDE = 96
"""Columns from which a sentence stands next to its name."""


@dataclass(frozen=True)
class Topic:
    """A row of the help: a key or several that belong together, or a word."""

    section: str
    name: str
    sentence: str
    synonyms: str = ""
    keys: str = ""
    """As the row shows them."""
    written: tuple[str, ...] = ()
    """Each key for itself."""
    commands: tuple[Command, ...] = ()
    source: str = ""

    @property
    def command(self) -> Command | None:
        """The first of its commands that is possible now, else the first."""
        possible = (each for each in self.commands if not each.refused())
        return next(possible, self.commands[0] if self.commands else None)


class Topics(OptionRows, can_focus=False):
    """The rows, under the headings of their sections."""

    DEFAULT_CSS = """
    Topics {
        height: 1fr;
        max-height: 100%;
        border: none;
        padding: 0;
        background: $background;
        scrollbar-gutter: stable;
        scrollbar-size-vertical: 1;
    }

    Topics > .option-list--option-highlighted {
        color: $block-cursor-blurred-foreground;
        background: $block-cursor-blurred-background;
    }

    Topics:nocolor > .option-list--option-highlighted {
        color: $background;
        background: $foreground;
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._topics: list[Topic] = []

    def show(self, topics: Iterable[Topic]) -> None:
        """Show other topics, and highlight the first."""
        self._topics = list(topics)
        self._draw()
        self.action_first()
        self.scroll_home(animate=False)

    def on_resize(self) -> None:
        """Wrap the rows to the new width."""
        kept = self.highlighted
        self._draw()
        if self._topics:
            self.highlighted = kept or 1

    def _draw(self) -> None:
        self.clear_options()
        width = self.scrollable_content_region.width
        if width:
            self.add_options(_rows(self._topics, width))


class Row(Option):
    """A topic, wrapped to a width."""

    def __init__(self, topic: Topic, width: int) -> None:
        super().__init__(_content(topic, width))
        self.topic = topic


def _rows(topics: Sequence[Topic], width: int) -> Iterator[Option]:
    """Each section's heading and topics; a section is where its first topic is."""
    sections = dict.fromkeys(topic.section for topic in topics)
    for section in sections:
        yield Option(Content(section).stylize("bold $text-primary"), disabled=True)
        yield from (Row(topic, width) for topic in topics if topic.section == section)
    if not topics:
        nothing = "Nothing here matches; try a shorter word."
        yield Option(Content(nothing), disabled=True)


def _content(topic: Topic, width: int) -> Content:
    """Keys and name, and the sentence next to or below them."""
    command = topic.command
    refused = command.refused() if command else None
    keys = f"{topic.keys}  ".ljust(_KEYS_WIDTH) if topic.keys else ""
    title = Content.assemble((keys, "bold"), topic.name)
    said = [topic.sentence] if topic.sentence else []
    said += [f"Not now: {refused.reason}"] if refused else []
    said += [topic.source] if topic.source else []
    is_wide = width >= _WIDE
    indent = _KEYS_WIDTH + _NAME_WIDTH if is_wide else _KEYS_WIDTH if keys else _INDENT
    indent = min(indent, width // 3)
    if is_wide and title.cell_length >= indent:
        said.insert(0, "")
    lines = [line for part in said for line in textwrap.wrap(part, width - indent) or [""]]
    if is_wide:
        first, *rest = lines or [""]
        title = title.pad_right(max(0, indent - title.cell_length)).append(first)
    else:
        rest = lines
    content = Content("\n").join([title, *(Content(" " * indent + line) for line in rest)])
    return content.stylize("dim") if refused else content
