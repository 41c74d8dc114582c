"""The sampling settings; they hold for the next run. It knows no model."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, Literal

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalGroup
from textual.content import Content
from textual.widgets import Checkbox, Input, Label

from gpt.errors import UserError
from gpt.sanitize import one_line
from gpt.settings import Ids, Sampling
from gpt.words import split_boost
from tui.widgets.field import Field


@dataclass(frozen=True)
class Knob:
    """One setting: how it is called, how far a key press turns it, and what it means."""

    name: str
    label: str
    value: str
    kind: Literal["number", "integer"]
    step: float
    tip: str
    empty: str = "a number is missing"
    """What stands in its field if nothing does."""


KNOBS = (
    Knob(
        "temperature", "temperature", "0.8", "number", 0.1, "0 always takes the most probable token"
    ),
    Knob("top_k", "top-k", "0", "integer", 5, "keep this many most probable tokens; 0 keeps all"),
    Knob(
        "top_p", "top-p", "0.95", "number", 0.05, "keep the fewest tokens that reach this together"
    ),
    Knob(
        "min_p",
        "min-p",
        "0",
        "number",
        0.05,
        "keep tokens with this share of the best one's probability",
    ),
    Knob(
        "repetition_penalty", "repetition", "1", "number", 0.1, "above 1: avoid what is in the text"
    ),
    Knob(
        "seed",
        "seed",
        "",
        "integer",
        1,
        "the same seed repeats the same text; empty: new dice each run",
        "random",
    ),
    Knob("length", "length", "200", "integer", 50, "how many tokens a run draws at most"),
    Knob("branches", "branches", "1", "integer", 1, "how many runs begin at the same place"),
)


class Dial(Field):
    """A number that the arrow keys turn."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "turn(1)", "more", id="setting.more"),
        Binding("down", "turn(-1)", "less", id="setting.less"),
    ]

    def __init__(self, knob: Knob) -> None:
        super().__init__(
            knob.value,
            type=knob.kind,
            id=knob.name,
            compact=True,
            placeholder=knob.empty,
            tooltip=knob.tip,
        )
        self._knob = knob

    def action_turn(self, by: int) -> None:
        """Add a step, from 0 on."""
        try:
            value = float(self.value or 0) + by * self._knob.step
        except ValueError:
            return
        self.value = f"{max(0.0, value):.10g}"


_TOKEN = re.compile(r"#\d{1,18}", re.ASCII)


def _line(items: list[str]) -> str:
    return " ".join(item.replace(" ", "·") for item in items)


PRESETS: dict[str, dict[str, float]] = {
    "greedy": {"temperature": 0},
    "careful": {"temperature": 0.6, "top_p": 0.9},
    "balanced": {"temperature": 0.8, "top_p": 0.95},
    "wild": {"temperature": 1.3, "min_p": 0.02},
    "the model's own": {},
}
_NEUTRAL = {"temperature": 1, "top_k": 0, "top_p": 1, "min_p": 0, "repetition_penalty": 1}


def _values_of_presets() -> list[tuple[str, dict[str, str]]]:
    """What each preset puts into the fields."""
    return [
        (name, {dial: f"{value:.10g}" for dial, value in (_NEUTRAL | values).items()})
        for name, values in PRESETS.items()
    ]


def _boost(item: str) -> tuple[str, float]:
    try:
        return split_boost(item)
    except UserError as error:
        raise UserError(f"boosted: {error}") from None


WORDS = {
    "banned": "never written: king, or ·king with its space, or #12 by number; x bans a token",
    "boosted": "more, or less, likely: king:2 adds 2 nats to its logits; + and - in the text",
}


class Tick(Checkbox):
    """A checkbox that can be told from an empty one without colour."""

    @property
    def BUTTON_INNER(self) -> str:  # type: ignore[override]  # noqa: N802
        """Textual shows a cross in both states and dims one."""
        return "X" if self.value else " "


class Controls(VerticalGroup):
    """A row for every setting."""

    BORDER_TITLE = "settings of the next run"

    def __init__(self, *, chat: bool) -> None:
        super().__init__(id="controls")
        self._chat = chat
        self.words: dict[str, tuple[Ids, ...]] = {}
        """What the model's tokens of a word are, once it was asked."""

    def compose(self) -> ComposeResult:
        """Labels and dials, two columns."""
        for knob in KNOBS:
            yield Label(knob.label, markup=False)
            yield Dial(knob)
        for name, tip in WORDS.items():
            yield Label(name, markup=False)
            yield Field(id=name, compact=True, placeholder="words, or #12", tooltip=tip)
        yield Tick(
            "turns",
            self._chat,
            id="chat",
            compact=True,
            tooltip="what you send is a turn; the model answers and stops where yours begins",
        )
        yield Tick(
            "slide when full",
            id="slide",
            compact=True,
            tooltip="go on when the context is full, with the oldest tokens out of sight",
        )

    def set(self, name: str, value: float) -> bool:
        """Turn a dial from outside; whether there is one of this name."""
        if name not in {knob.name for knob in KNOBS}:
            return False
        self.query_one(f"#{name}", Dial).value = f"{value:.10g}"
        return True

    def numbers(self) -> dict[str, float]:
        """What the dials stand at, those that have a number, whole ones as such."""
        values = {knob.name: self.query_one(f"#{knob.name}", Dial).value for knob in KNOBS}
        found = dict[str, float]()
        for name, text in values.items():
            with suppress(ValueError):
                found[name] = int(text) if text.isdecimal() else float(text)
        return found

    def next_preset(self) -> str:
        """Turn the dials to the next preset; its name."""
        names, now = list(PRESETS), self._preset()
        chosen = names[(names.index(now) + 1) % len(names) if now else 0]
        for name, value in dict(_values_of_presets())[chosen].items():
            self.query_one(f"#{name}", Dial).value = value
        return chosen

    def toggle_ban(self, token_id: int) -> bool:
        """Ban a token or allow it again; whether it is banned now."""
        items, item = self._items("banned"), f"#{token_id}"
        banned = item not in items
        items = [*items, item] if banned else [each for each in items if each != item]
        self.query_one("#banned", Input).value = _line(items)
        return banned

    def boost(self, token_id: int, by: float) -> float:
        """Make a token more likely, or less; the nats that its logit gets now."""
        name, nats, others = f"#{token_id}", by, []
        for item in self._items("boosted"):
            if item.rpartition(":")[0] == name:
                nats += split_boost(item)[1]
            else:
                others.append(item)
        items = [*others, f"{name}:{nats:g}"] if nats else others
        self.query_one("#boosted", Input).value = _line(items)
        return nats

    def unknown_words(self) -> list[str]:
        """Words in the fields of which nobody has said yet what their tokens are."""
        items = self._items("banned") + [item.rpartition(":")[0] for item in self._items("boosted")]
        named = (item for item in items if item and not _TOKEN.fullmatch(item))
        return [item for item in dict.fromkeys(named) if item not in self.words]

    def _items(self, name: str) -> list[str]:
        items = self.query_one(f"#{name}", Input).value.split()
        return [item.replace("·", " ") for item in items]

    def _ids(self, item: str) -> tuple[Ids, ...]:
        if _TOKEN.fullmatch(item):
            return ((int(item[1:]),),)
        if item not in self.words:
            raise UserError(f"the model has not said yet what its tokens of {item!r} are")
        return self.words[item]

    @on(Input.Changed)
    def check(self) -> None:
        """Say what is wrong with the settings as soon as it is; else which preset they are."""
        try:
            self._sampling(seed=0)
            _ = self.length, self.branches
        except UserError as error:
            self.border_subtitle = Content(one_line(str(error)))
        else:
            self.border_subtitle = self._preset() or ""

    def _preset(self) -> str | None:
        now = {name: self.query_one(f"#{name}", Dial).value for name in _NEUTRAL}
        return next((name for name, values in _values_of_presets() if values == now), None)

    def _number(self, name: str, kind: type[int] | type[float]) -> float:
        text = self.query_one(f"#{name}", Dial).value
        try:
            return kind(text)
        except ValueError:
            label = next(knob.label for knob in KNOBS if knob.name == name)
            raise UserError(f"{label} is {text!r}; it must be a number") from None

    def sampling(self, *, throw: bool = True) -> Sampling:
        """The settings. Raises UserError naming a bad one.

        throw: an empty seed throws new dice; else it is the one of the last run.
        """
        seed = self.query_one("#seed", Dial)
        if not seed.value and (throw or not seed.placeholder.isdecimal()):
            seed.placeholder = str(int.from_bytes(os.urandom(4)) >> 1)
        return self._sampling(
            seed=int(self._number("seed", int)) if seed.value else int(seed.placeholder)
        )

    def _sampling(self, *, seed: int) -> Sampling:
        return Sampling(
            temperature=self._number("temperature", float),
            top_k=int(self._number("top_k", int)),
            top_p=self._number("top_p", float),
            min_p=self._number("min_p", float),
            repetition_penalty=self._number("repetition_penalty", float),
            banned=tuple(ids for item in self._items("banned") for ids in self._ids(item)),
            boosted=tuple(
                (ids, nats)
                for word, nats in map(_boost, self._items("boosted"))
                for ids in self._ids(word)
            ),
            seed=seed,
        )

    @property
    def length(self) -> int:
        """Tokens of a run. Raises UserError where it is no number."""
        return int(self._number("length", int))

    @property
    def branches(self) -> int:
        """Runs from one place. Raises UserError where it is no number from 1 to 50."""
        number = int(self._number("branches", int))
        if not 1 <= number <= 50:
            raise UserError(f"branches is {number}; it must be 1 to 50")
        return number

    @property
    def slide(self) -> bool:
        """Whether to go on when the context is full."""
        return self.query_one("#slide", Checkbox).value

    @property
    def chat(self) -> bool:
        """Whether what is sent is a turn of a conversation."""
        return self.query_one("#chat", Checkbox).value
