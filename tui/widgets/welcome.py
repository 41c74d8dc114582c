"""What an empty text shows: opening lines and the first keys."""

from __future__ import annotations

from typing import NamedTuple

from rich.style import Style
from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

TITLE = "A language model, token by token."


class Openings(NamedTuple):
    """Three first lines that a kind of model continues well."""

    first: str
    second: str
    third: str


SHAKESPEARE = Openings("ROMEO:", "To be, or not to be", "First Citizen:")
GENERAL = Openings("Once upon a time", "The capital of France is", "Dear diary, today I")
CHAT = Openings(
    "What is the capital of France?", "Write a poem about the sea.", "Why is the sky blue?"
)
KEYS = (
    ("Tab", "into the text: open any token"),
    ("1-9", "take another candidate and continue"),
    ("F2", "what each setting changes"),
    ("Space", "all keys of the text"),
    ("F1", "help, with a glossary"),
)
_GAP = 4


def openings_of(model: str, *, chat: bool = False) -> Openings:
    """Opening lines for the model with this name; chat: they are messages."""
    if chat:
        return CHAT
    return SHAKESPEARE if model == "shakespeare" else GENERAL


class Welcome(Widget):
    """Stands in the empty text until somebody types."""

    openings: reactive[Openings] = reactive(GENERAL)
    chosen: reactive[int] = reactive(0)
    """Index of the opening line that Enter sends."""

    has_texts: reactive[bool] = reactive(False)
    """Whether a text can be opened again."""

    @property
    def opening(self) -> str:
        """The line that Enter sends."""
        return self.openings[self.chosen]

    def choose(self, by: int) -> None:
        """Choose the next (1) or previous (-1) opening line."""
        self.chosen = (self.chosen + by) % len(self.openings)

    def render(self) -> Text:
        """Opening lines at the left, keys at the right or, in a narrow text, below."""
        lines = [self._opening(i) for i in range(len(self.openings))]
        last = Text("       Enter sends it; or type your own.", "dim")
        if self.has_texts:
            last = Text.assemble("       Or type your own. ", ("F3", "bold"), ": your last text.")
            last.stylize(Style.from_meta({"@click": "screen.texts"}))
        lines.append(last)
        keys = [Text.assemble((f"{key:6}", "bold"), what) for key, what in KEYS]
        width, height = self.content_size
        column = max(line.cell_len for line in lines) + _GAP
        if width >= column + max(key.cell_len for key in keys):
            left = [*lines, *[Text() for _ in keys[len(lines) :]]]
            lines = []
            for opening, key in zip(left, keys, strict=True):
                opening.pad_right(column - opening.cell_len)
                lines.append(Text.assemble(opening, key))
        elif height >= len(lines) + len(keys) + 3:
            lines += [Text(), *keys]
        if height >= len(lines) + 2:
            lines = [Text(TITLE, "bold"), Text(), *lines]
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)

    def _opening(self, index: int) -> Text:
        is_chosen = index == self.chosen
        key = "Enter" if is_chosen else "↑ ↓" if index == 1 or self.chosen == 1 else ""
        line = Text(f"{key:7}", "bold" if is_chosen else "dim")
        line.append(self.openings[index], "bold reverse" if is_chosen else "")
        line.stylize(Style.from_meta({"@click": f"screen.open_with({index})"}))
        return line
