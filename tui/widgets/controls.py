"""The fields of the sampling settings, which the next run uses; no model."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from textual import getters, on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Button, Checkbox, Input, Label

from gpt.errors import UserError
from gpt.sanitize import one_line
from gpt.settings import Ids, Sampling
from gpt.word_ids import split_boost
from tui.dials import KNOBS, MORE, NEUTRAL, PRESETS, SAMPLED, WORDS, Setup, preset_fields
from tui.runs import RunSettings
from tui.widgets.dial import Tick, Words, ids_of, is_named, number
from tui.widgets.field import Field
from tui.widgets.setting_rows import more_rows, rows, said
from tui.widgets.slider import Slider
from tui.widgets.told import Told

_LATER = {*(knob.name for knob in MORE), "dynatemp_range", "order"}
"""Settings that only the opened panel shows."""


class Controls(VerticalScroll, can_focus=False):
    """One row for each setting."""

    BORDER_TITLE = "Sampling"

    _chat_box = getters.query_one("#chat", Checkbox)
    _more_box = getters.query_one("#more", Checkbox)
    _slide_box = getters.query_one("#slide", Checkbox)
    _problem = getters.query_one("#problem", Label)

    order: reactive[tuple[str, ...]] = reactive((), init=False)
    """The order of the settings, as in Sampling."""
    last_seed: reactive[int | None] = reactive(None, init=False)
    """The seed of the newest drawn text; None if there is none."""

    class Turned(Message):
        """A setting has another value."""

    def __init__(self, *, chat: bool, system: str = "") -> None:
        """system: what the model of a chat is told first."""
        super().__init__(id="sampling")
        self._chat = chat
        self._system = Told(system)
        self._later = {knob.name: knob.value for knob in MORE}
        """What the fields will hold that are mounted when somebody opens them."""
        self.acting = frozenset[str]()
        """Names of the settings that are not neutral."""
        self.words: dict[str, tuple[Ids, ...]] = {}
        """Word → the ids of its forms, once the model has answered."""

    def compose(self) -> ComposeResult:
        """Labels, sliders and fields in three columns."""
        yield Label(id="problem", markup=False)
        yield from rows(KNOBS[: -len(MORE)])
        for name, tip in WORDS.items():
            yield Label(name, markup=False)
            yield Words(id=name, compact=True, placeholder="words by spaces, or #id", tooltip=tip)
        yield Tick(
            "Chat",
            self._chat,
            id="chat",
            compact=True,
            tooltip="each prompt is a message of a chat; the model stops after its answer",
        )
        yield self._system
        yield Tick(
            "Slide context when full",
            id="slide",
            compact=True,
            tooltip="when the context is full, continue and forget the oldest tokens",
        )
        tip = "penalties, DRY, XTC, mirostat and other settings, and their order"
        yield Tick("More", id="more", compact=True, tooltip=tip)

    def _field(self, name: str) -> Field:
        return self.query_one(f"#{name}", Field)

    def _text(self, name: str) -> str:
        """What the field of a setting holds."""
        return self._later[name] if name in self._later else self._field(name).value

    def _write(self, name: str, text: str) -> None:
        if name in self._later:
            self._later[name] = text
            self.check()
        else:
            self._field(name).show(text)

    def set(self, name: str, value: float) -> bool:
        """Set the setting with this name; False if there is none."""
        if name not in {knob.name for knob in KNOBS}:
            return False
        self._write(name, f"{value:.10g}")
        return True

    def numbers(self) -> dict[str, float]:
        """Name → value of every setting whose field holds a number."""
        values = {knob.name: self._text(knob.name) for knob in KNOBS}
        found = dict[str, float]()
        for name, text in values.items():
            with suppress(ValueError):
                found[name] = int(text) if text.isdecimal() else float(text)
        return found

    def setup(self) -> Setup:
        """What all fields hold."""
        texts = {name: self._text(name) for name in (*(knob.name for knob in KNOBS), *WORDS)}
        return Setup(texts, self.order, self.slide, self.chat)

    def use(self, setup: Setup, given: Collection[str] = ()) -> None:
        """Fill all fields, except those whose names are given."""
        empty = {knob.name: knob.value for knob in KNOBS} | dict.fromkeys(WORDS, "")
        for name, text in {**empty, **setup.texts}.items():
            if name not in given:
                self._write(name, text)
        self.order, self._slide_box.value = setup.order, setup.slide
        if "chat" not in given:
            self._chat_box.value = setup.chat

    def use_preset(self, name: str) -> None:
        """Set the fields to a preset."""
        for field, value in preset_fields(name).items():
            self._write(field, value)
        self.order = ()

    @property
    def preset(self) -> str | None:
        """Name of the preset that the fields show; None if they show another mixture."""
        now = {name: self._text(name) for name in NEUTRAL}
        if self.order:
            return None
        return next((name for name in PRESETS if preset_fields(name) == now), None)

    def show_former(self, sampling: Sampling | None) -> None:
        """Mark on the sliders what the selected token was sampled with."""
        for slider in self.query(Slider):
            slider.former = None if sampling is None else getattr(sampling, slider.knob.name)

    @on(Slider.Moved)
    def _moved(self, event: Slider.Moved) -> None:
        event.stop()
        self._field(event.slider.knob.name).show(f"{event.value:.10g}")

    def toggle_ban(self, token_id: int) -> bool:
        """Ban a token or allow it again; returns whether it is banned now."""
        field, item = self._words("banned"), f"#{token_id}"
        banned = item not in field.items
        field.put([*field.items, item] if banned else [it for it in field.items if it != item])
        return banned

    def boost(self, token_id: int, by: float) -> float:
        """Add nats to a token's boost; returns the boost."""
        field = self._words("boosted")
        name, nats, others = f"#{token_id}", by, []
        for item in field.items:
            if item.rpartition(":")[0] == name:
                nats += split_boost(item)[1]
            else:
                others.append(item)
        field.put([*others, f"{name}:{nats:g}"] if nats else others)
        return nats

    def unknown_words(self) -> list[str]:
        """Words in the fields whose tokens are not known yet."""
        boosted = (item.rpartition(":")[0] for item in self._words("boosted").items)
        found = dict.fromkeys([*self._words("banned").items, *boosted])
        return [item for item in found if item and not is_named(item) and item not in self.words]

    def _words(self, name: str) -> Words:
        return self.query_one(f"#{name}", Words)

    @on(Input.Changed)
    def check(self) -> None:
        """Show the first problem of the settings and the name of their preset; move the sliders."""
        problem = ""
        try:
            self._show_acting(self._sampling(seed=self._seed() or 0))
            _ = self.length, self.branches
        except UserError as error:
            problem = one_line(str(error))
        self._problem.update(Content(problem))
        self.set_class(bool(problem), "-problem")
        self._say()
        values = self.numbers()
        for slider in self.query(Slider):
            slider.value = values.get(slider.knob.name)
        self.post_message(self.Turned())

    def on_descendant_focus(self) -> None:
        """Say what the keys do now."""
        self._say()

    on_descendant_blur = on_descendant_focus

    def _say(self) -> None:
        """Say in the border how a setting is changed, and the preset, which a click changes."""
        keys = "↑ ↓ change" if self.has_focus_within else "Tab to change"
        preset = Content(f"{self._mixture} ▾").stylize("@click=screen.preset")
        self.border_subtitle = Content(" · ").join([Content(keys), preset])

    @property
    def _mixture(self) -> str:
        """The preset, and how many words change it further."""
        counts = ((name, len(self._words(name).items)) for name in WORDS)
        parts = [self.preset or "no preset", *(f"{n} {name}" for name, n in counts if n)]
        return " + ".join(parts)

    def _show_acting(self, sampling: Sampling) -> None:
        """Open the panel for a setting that begins to act, and count those that do."""
        hidden = sampling.active & _LATER
        if hidden - self.acting:
            self._more_box.value = True
        self.acting = sampling.active.union(sampling.stages)
        self._more_box.label = Content(f"More {len(hidden)}" if hidden else "More")

    async def field_of(self, name: str) -> Widget:
        """The field of a setting, after it is mounted."""
        if name in self._later or self.query_one(f"#{name}").has_class("more"):
            await self.open()
            self.update_node_styles()  # it may get the focus at once
        return self.query_one(f"#{name}")

    async def open(self) -> None:
        """Show the settings that few people need."""
        if texts := self._later:
            self._later = {}
            await self.mount(*more_rows(texts, self.order))
        self.set_class(True, "-more")
        self._more_box.value = True

    @on(Checkbox.Changed, "#more")
    async def _open(self, event: Checkbox.Changed) -> None:
        if event.value:
            await self.open()
        self.set_class(event.value, "-more")
        if self._more_box.has_focus:
            self.call_after_refresh(
                lambda: self.scroll_to(y=self._more_box.virtual_region.y, animate=False)
            )

    def watch_order(self, order: tuple[str, ...]) -> None:
        """Name the settings in their order."""
        if not self._later:
            self.query_one("#order", Button).label = said(order)
        self.check()

    def _number(self, name: str) -> float:
        return number(next(knob for knob in KNOBS if knob.name == name), self._text(name))

    def sampling(self, *, new_seed: bool = True) -> Sampling:
        """The sampling settings. Raises UserError that names a bad one.

        new_seed: an empty seed means a new random one; else the last seed, or 0.
        """
        if new_seed:
            given = self._seed()
            self.last_seed = int.from_bytes(os.urandom(4)) >> 1 if given is None else given
            return self._sampling(seed=self.last_seed)
        return self._sampling(seed=self._seed() or self.last_seed or 0)

    def watch_last_seed(self, seed: int | None) -> None:
        """Say it in the empty field."""
        knob = next(knob for knob in KNOBS if knob.name == "seed")
        self._field("seed").placeholder = (
            knob.empty if seed is None else f"{knob.empty}; last {seed}"
        )

    @property
    def has_seed(self) -> bool:
        """Whether the person chose the seed."""
        return bool(self._field("seed").value)

    def _seed(self) -> int | None:
        """The seed in the field; None if it is empty."""
        return int(self._number("seed")) if self._field("seed").value else None

    def _sampling(self, *, seed: int) -> Sampling:
        numbers: dict[str, Any] = {knob.name: self._number(knob.name) for knob in SAMPLED}
        boosts = [split_boost(item) for item in self._words("boosted").items]
        return Sampling(
            **numbers,
            order=self.order,
            banned=tuple(
                ids for item in self._words("banned").items for ids in ids_of(item, self.words)
            ),
            boosted=tuple((ids, nats) for word, nats in boosts for ids in ids_of(word, self.words)),
            seed=seed,
        )

    def settings(self, length: int | None = None) -> RunSettings:
        """All settings of the next run. Raises UserError that names a bad one.

        length: most tokens of a single branch, instead of the fields for length and branches.
        """
        sampling = self.sampling()
        length, branches = (self.length, self.branches) if length is None else (length, 1)
        return RunSettings(sampling, length, branches, self.slide, self.chat, self._system.told)

    @property
    def length(self) -> int:
        """Most tokens of a run. Raises UserError if it is not a whole number of at least 0."""
        return int(self._number("length"))

    @property
    def branches(self) -> int:
        """Texts that are written at once. Raises UserError if there are none, or too many."""
        return int(self._number("branches"))

    @property
    def slide(self) -> bool:
        """Whether to continue when the context is full."""
        return self._slide_box.value

    @property
    def chat(self) -> bool:
        """Whether a prompt is a message of a chat."""
        return self._chat_box.value

    def tell(self, system: str) -> None:
        """Show the system prompt of a text, if it has one."""
        if system:
            self._system.tell(system)

    @on(Input.Changed, "#system")
    def _told(self, event: Input.Changed) -> None:
        """A system prompt belongs to a chat."""
        self._chat_box.value = self.chat or bool(event.value)
