"""A field for a number, a checkbox, and a field for words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Checkbox

from gpt.errors import UserError
from gpt.settings import Ids, check_setting
from tui.dials import Knob
from tui.widgets.field import Field

_TOKEN = re.compile(r"#\d{1,18}", re.ASCII)
_LEADING_SPACE = re.compile(r"(?<![^ ]) (?=[^ ])")
"""A space at the beginning or after another space, before a word."""


class Dial(Field):
    """A number that the arrow keys change along its slider."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "turn(-1)", "less", id="setting.less"),
        Binding("right", "turn(1)", "more", id="setting.more"),
    ]

    def __init__(self, knob: Knob, *, classes: str = "") -> None:
        super().__init__(
            knob.value,
            id=knob.name,
            classes=classes,
            compact=True,
            placeholder=knob.empty,
            tooltip=knob.tip,
        )
        self.knob = knob

    @property
    def is_wrong(self) -> bool:
        """Whether it holds no number, or none in the setting's range."""
        try:
            number(self.knob, self.value)
        except UserError:
            return bool(self.value) or self.knob.name != "seed"
        return False

    def action_turn(self, by: int) -> None:
        """Add or subtract one step, within the range."""
        try:
            value = float(self.value or 0) + by * self.knob.step
        except ValueError:
            return
        self.show(f"{min(self.knob.most, max(self.knob.least, value)):.10g}")


def number(knob: Knob, text: str) -> float:
    """The number that a field holds; UserError if it is none, or none in the setting's range."""
    kind = int if knob.kind == "integer" else float
    try:
        value = kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise UserError(f"{knob.label} is {text!r}; it must be {wanted}") from None
    check_setting("max_new_tokens" if knob.name == "length" else knob.name, value, knob.label)
    return value


class Tick(Checkbox):
    """A checkbox whose state is visible without colour.

    Textual draws a dark box in both states, with a cross that it only dims in one.
    """

    @property
    def _button(self) -> Content:
        return Content("[X]" if self.value else "[ ]").stylize("bold" if self.value else "")


class Words(Field):
    """Words and tokens by id (#12), separated by spaces or commas; · is a space inside a word.

    A space that separates nothing, as in " the", belongs to the word and is shown as such.
    """

    def validate_value(self, value: str) -> str:
        """Show the space that a word begins with; the text keeps its length."""
        return _LEADING_SPACE.sub("·", super().validate_value(value))

    @property
    def items(self) -> list[str]:
        """The words, with spaces. A comma alone is a word."""
        parts = (item if item == "," else item.removesuffix(",") for item in self.value.split())
        return [item.replace("·", " ") for item in parts]

    def put(self, items: Iterable[str]) -> None:
        """Show other words."""
        self.show(" ".join(item.replace(" ", "·") for item in items))


def is_named(item: str) -> bool:
    """Whether a word is a token by its id, which no tokenizer needs to cut."""
    return bool(_TOKEN.fullmatch(item))


def ids_of(item: str, words: Mapping[str, tuple[Ids, ...]]) -> tuple[Ids, ...]:
    """The ids of a word's forms. words: those that the model's tokenizer has cut."""
    if is_named(item):
        return ((int(item[1:]),),)
    if item not in words:
        raise UserError(f"the model has not tokenized {item!r} yet")
    return words[item]
