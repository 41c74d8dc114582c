"""A field for a number, a checkbox, and a field for words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Checkbox

from gpt.errors import UserError
from gpt.sanitize import one_line
from gpt.settings import Ids, check_setting
from gpt.step import Step
from gpt.word_ids import exactly
from tui.dials import Knob
from tui.labels import sentence
from tui.widgets.field import Field

_TOKEN = re.compile(r"#\d{1,18}", re.ASCII)
_LEADING_SPACE = re.compile(r"(?<![^ ]) (?=[^ ])")
"""A space at the beginning or after another space, before a word."""


_TYPED = {"integer": r"[-+]?\d*", "number": r"[-+]?\d*\.?\d*((?<=[\d.])e[-+]?\d*)?"}
"""Kind of a setting → what may be typed on the way to a number."""
_NOUN = {"integer": "a whole number", "number": "a number"}


class Dial(Field):
    """A number that the arrow keys change along its slider.

    It takes no letters. What is no number of the setting's range goes when the field is left.
    """

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
            restrict=_TYPED[knob.kind],
        )
        self.knob = knob
        self._usable = knob.value

    @property
    def problem(self) -> str:
        """Why it holds no number, or none in the setting's range; "" if it does."""
        try:
            number(self.knob, self.value)
        except UserError as error:
            return str(error) if self.value or self.knob.name != "seed" else ""
        return ""

    @property
    def usable(self) -> str:
        """What it holds; if that cannot be used, what it held when it got the focus."""
        return self._usable if self.problem else self.value

    def show(self, text: str) -> None:
        """Hold another number."""
        super().show(text)
        self.settle()

    def settle(self) -> None:
        """Keep what can be used: from now on it is what comes back."""
        self._usable = self.usable

    def on_focus(self) -> None:
        """What is typed from now on may be taken back."""
        self.settle()

    def on_blur(self) -> None:
        """Take back what cannot be used."""
        if problem := self.problem:
            self.show(self.usable)
            kept = self.value or self.knob.empty
            self.notify(one_line(sentence(f"{problem}. It stays {kept}.")), markup=False)

    def restricted(self) -> None:
        """Say why a letter does nothing."""
        self.notify(sentence(f"{self.knob.label} takes {_NOUN[self.knob.kind]}."), markup=False)

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
        raise UserError(f"{knob.label} is {text!r}; it must be {_NOUN[knob.kind]}") from None
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
    """Words, texts in quotes and tokens by id (#12), separated by spaces or commas; · is a space
    inside a word.

    A space that separates nothing, as in " the", belongs to the word and is shown as such.
    """

    def on_focus(self) -> None:
        """What is typed comes after the words that are there, and does not replace them."""
        self.call_later(self.action_end)

    def show(self, text: str) -> None:
        """Hold other words, with the cursor after them."""
        self.value = text
        self.action_end()

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


def item_of(token: Step) -> str:
    """A token as a word that means only this token: its text in quotes, or else its id."""
    text = token.bytes.decode("utf-8", "replace")
    item = exactly(text)
    is_written = "\ufffd" not in text and "·" not in text and item.replace(" ", "").isprintable()
    return item if is_written and not token.name else f"#{token.token_id}"


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
