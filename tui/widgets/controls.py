"""The fields of the sampling settings, which the next run uses; no model."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import ClassVar

from textual import getters, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Checkbox, Input, Label

from gpt.errors import UserError
from gpt.sanitize import one_line
from gpt.settings import Ids, Sampling, check_setting
from gpt.word_ids import split_boost
from tui.dials import KNOBS, NEUTRAL, PRESETS, WORDS, Knob, preset_fields
from tui.runs import RunSettings
from tui.widgets.field import Field
from tui.widgets.slider import Slider


class Dial(Field):
    """A number that the arrow keys change."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "turn(1)", "more", id="setting.more"),
        Binding("down", "turn(-1)", "less", id="setting.less"),
    ]

    def __init__(self, knob: Knob) -> None:
        super().__init__(
            knob.value,
            id=knob.name,
            compact=True,
            placeholder=knob.empty,
            tooltip=knob.tip,
        )
        self._knob = knob

    def action_turn(self, by: int) -> None:
        """Add or subtract one step, within the range."""
        try:
            value = float(self.value or 0) + by * self._knob.step
        except ValueError:
            return
        self.value = f"{min(self._knob.most, max(0.0, value)):.10g}"


_TOKEN = re.compile(r"#\d{1,18}", re.ASCII)


def _line(items: list[str]) -> str:
    return " ".join(item.replace(" ", "·") for item in items)


def _boost(item: str) -> tuple[str, float]:
    try:
        return split_boost(item)
    except UserError as error:
        raise UserError(f"boosted: {error}") from None


class Tick(Checkbox):
    """A checkbox whose state is visible without colour."""

    @property
    def BUTTON_INNER(self) -> str:  # type: ignore[override]  # noqa: N802
        """Textual shows a cross in both states and only dims one."""
        return "X" if self.value else " "


class Controls(VerticalScroll, can_focus=False):
    """One row for each setting."""

    BORDER_TITLE = "Sampling"

    _chat_box = getters.query_one("#chat", Checkbox)
    _slide_box = getters.query_one("#slide", Checkbox)
    _problem = getters.query_one("#problem", Label)

    class Turned(Message):
        """A setting has another value."""

    def __init__(self, *, chat: bool) -> None:
        super().__init__(id="sampling")
        self._chat = chat
        self._drawn_seed: int | None = None
        """The latest random seed."""
        self.words: dict[str, tuple[Ids, ...]] = {}
        """Word → the ids of its forms, once the model has answered."""

    def compose(self) -> ComposeResult:
        """Labels, sliders and fields in three columns."""
        yield Label(id="problem", markup=False)
        for knob in KNOBS:
            yield Label(Content(knob.label).stylize(f"@click=app.help({knob.label!r})"))
            if knob.ends:
                yield Slider(knob, id=f"slide_{knob.name}")
            yield Dial(knob)
        for name, tip in WORDS.items():
            yield Label(name, markup=False)
            yield Field(id=name, compact=True, placeholder="words, or #12", tooltip=tip)
        yield Tick(
            "Chat",
            self._chat,
            id="chat",
            compact=True,
            tooltip="each prompt is a message of a chat; the model stops after its answer",
        )
        yield Tick(
            "Slide context when full",
            id="slide",
            compact=True,
            tooltip="when the context is full, continue and forget the oldest tokens",
        )

    def _field(self, name: str) -> Input:
        return self.query_one(f"#{name}", Input)

    def set(self, name: str, value: float) -> bool:
        """Set the setting with this name; False if there is none."""
        if name not in {knob.name for knob in KNOBS}:
            return False
        self._field(name).value = f"{value:.10g}"
        return True

    def numbers(self) -> dict[str, float]:
        """Name → value of every setting whose field holds a number."""
        values = {knob.name: self._field(knob.name).value for knob in KNOBS}
        found = dict[str, float]()
        for name, text in values.items():
            with suppress(ValueError):
                found[name] = int(text) if text.isdecimal() else float(text)
        return found

    def use_preset(self, name: str) -> None:
        """Set the fields to a preset."""
        for field, value in preset_fields(name).items():
            self._field(field).value = value

    @property
    def preset(self) -> str | None:
        """Name of the preset that the fields show; None if they show another mixture."""
        now = {name: self._field(name).value for name in NEUTRAL}
        return next((name for name in PRESETS if preset_fields(name) == now), None)

    def show_former(self, sampling: Sampling | None) -> None:
        """Mark on the sliders what the selected token was sampled with."""
        for slider in self.query(Slider):
            slider.former = None if sampling is None else getattr(sampling, slider.knob.name)

    @on(Slider.Moved)
    def _moved(self, event: Slider.Moved) -> None:
        event.stop()
        self._field(event.slider.knob.name).value = f"{event.value:.10g}"

    def toggle_ban(self, token_id: int) -> bool:
        """Ban a token or allow it again; returns whether it is banned now."""
        items, item = self._items("banned"), f"#{token_id}"
        banned = item not in items
        items = [*items, item] if banned else [each for each in items if each != item]
        self._field("banned").value = _line(items)
        return banned

    def boost(self, token_id: int, by: float) -> float:
        """Add nats to a token's boost; returns the boost."""
        name, nats, others = f"#{token_id}", by, []
        for item in self._items("boosted"):
            if item.rpartition(":")[0] == name:
                nats += split_boost(item)[1]
            else:
                others.append(item)
        items = [*others, f"{name}:{nats:g}"] if nats else others
        self._field("boosted").value = _line(items)
        return nats

    def unknown_words(self) -> list[str]:
        """Words in the fields whose tokens are not known yet."""
        items = self._items("banned") + [item.rpartition(":")[0] for item in self._items("boosted")]
        named = (item for item in items if item and not _TOKEN.fullmatch(item))
        return [item for item in dict.fromkeys(named) if item not in self.words]

    def _items(self, name: str) -> list[str]:
        items = self._field(name).value.split()
        return [item.replace("·", " ") for item in items]

    def _ids(self, item: str) -> tuple[Ids, ...]:
        if _TOKEN.fullmatch(item):
            return ((int(item[1:]),),)
        if item not in self.words:
            raise UserError(f"the model has not tokenized {item!r} yet")
        return self.words[item]

    @on(Input.Changed)
    def check(self) -> None:
        """Show the first problem of the settings and the name of their preset; move the sliders."""
        problem = ""
        try:
            self._sampling(seed=self._seed() or 0)
            _ = self.length, self.branches
        except UserError as error:
            problem = one_line(str(error))
        self._problem.update(Content(problem))
        self.set_class(bool(problem), "-problem")
        name = self.preset or "no preset"
        self.border_subtitle = Content(f"{name} ▾").stylize("@click=screen.preset")
        values = self.numbers()
        for slider in self.query(Slider):
            slider.value = values.get(slider.knob.name)
        self.post_message(self.Turned())

    def _number(self, name: str, kind: type[int] | type[float]) -> float:
        text = self._field(name).value
        try:
            return kind(text)
        except ValueError:
            label = next(knob.label for knob in KNOBS if knob.name == name)
            wanted = "a whole number" if kind is int else "a number"
            raise UserError(f"{label} is {text!r}; it must be {wanted}") from None

    def sampling(self, *, new_seed: bool = True) -> Sampling:
        """The sampling settings. Raises UserError that names a bad one.

        new_seed: an empty seed means a new random one; else the seed of the previous run.
        """
        given = self._seed()
        if given is None and (new_seed or self._drawn_seed is None):
            self._drawn_seed = int.from_bytes(os.urandom(4)) >> 1
            self._field("seed").placeholder = f"random; last {self._drawn_seed}"
        return self._sampling(seed=(self._drawn_seed or 0) if given is None else given)

    @property
    def has_seed(self) -> bool:
        """Whether the person chose the seed."""
        return bool(self._field("seed").value)

    def _seed(self) -> int | None:
        """The seed in the field; None if it is empty."""
        return int(self._number("seed", int)) if self._field("seed").value else None

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

    def settings(self, length: int | None = None) -> RunSettings:
        """All settings of the next run. Raises UserError that names a bad one.

        length: most tokens of a single branch, instead of the fields for length and branches.
        """
        sampling = self.sampling()
        if length is None:
            return RunSettings(sampling, self.length, self.branches, self.slide, self.chat)
        return RunSettings(sampling, length, 1, self.slide, self.chat)

    @property
    def length(self) -> int:
        """Most tokens of a run. Raises UserError if it is not a whole number of at least 0."""
        length = int(self._number("length", int))
        check_setting("max_new_tokens", length)
        return length

    @property
    def branches(self) -> int:
        """Number of runs from one place. Raises UserError if it is not from 1 to 50."""
        number = int(self._number("branches", int))
        if not 1 <= number <= 50:
            raise UserError(f"branches is {number}; it must be 1 to 50")
        return number

    @property
    def slide(self) -> bool:
        """Whether to continue when the context is full."""
        return self._slide_box.value

    @property
    def chat(self) -> bool:
        """Whether a prompt is a message of a chat."""
        return self._chat_box.value
