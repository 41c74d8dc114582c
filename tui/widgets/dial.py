"""A field for a number, a checkbox, and a field for words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Checkbox

from gpt.errors import UserError
from gpt.settings import Ids
from gpt.word_ids import split_boost
from tui.dials import Knob
from tui.widgets.field import Field

_TOKEN = re.compile(r"#\d{1,18}", re.ASCII)


class Dial(Field):
    """A number that the arrow keys change."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "turn(1)", "more", id="setting.more"),
        Binding("down", "turn(-1)", "less", id="setting.less"),
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

    def action_turn(self, by: int) -> None:
        """Add or subtract one step, within the range."""
        try:
            value = float(self.value or 0) + by * self.knob.step
        except ValueError:
            return
        self.value = f"{min(self.knob.most, max(self.knob.least, value)):.10g}"


def number(knob: Knob, text: str) -> float:
    """The number that a field holds; UserError if it is none."""
    kind = int if knob.kind == "integer" else float
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise UserError(f"{knob.label} is {text!r}; it must be {wanted}") from None


class Tick(Checkbox):
    """A checkbox whose state is visible without colour."""

    @property
    def BUTTON_INNER(self) -> str:  # type: ignore[override]  # noqa: N802
        """Textual shows a cross in both states and only dims one."""
        return "X" if self.value else " "


class Words(Field):
    """Words and tokens by id (#12), separated by spaces; · is a space inside a word."""

    @property
    def items(self) -> list[str]:
        """The words, with spaces."""
        return [item.replace("·", " ") for item in self.value.split()]

    def put(self, items: Iterable[str]) -> None:
        """Show other words."""
        self.value = " ".join(item.replace(" ", "·") for item in items)


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


def boost_of(item: str) -> tuple[str, float]:
    """A word and its nats: king:2."""
    try:
        return split_boost(item)
    except UserError as error:
        raise UserError(f"boosted: {error}") from None
