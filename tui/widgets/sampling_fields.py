"""What the fields of the sampling settings hold; no model."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from textual import getters
from textual.containers import VerticalScroll
from textual.reactive import reactive
from textual.widgets import Checkbox

from gpt.errors import UserError
from gpt.nearest import nearest
from gpt.settings import Ids, Sampling
from gpt.step import Step
from gpt.word_ids import exactly, split_boost
from tui.dials import KNOBS, MORE, NEUTRAL, PRESETS, SAMPLED, USUAL, WORDS, Setup, preset_fields
from tui.runs import RunSettings
from tui.widgets.dial import Dial, Words, ids_of, is_named, item_of, number
from tui.widgets.field import Field
from tui.widgets.told import Told


class SamplingFields(VerticalScroll, can_focus=False, inherit_bindings=False):
    """The fields as values: read, filled, and made into the settings of a run."""

    _chat_box = getters.query_one("#chat", Checkbox)
    _slide_box = getters.query_one("#slide", Checkbox)
    _system = getters.query_one(Told)

    order: reactive[tuple[str, ...]] = reactive((), init=False)
    """The order of the settings, as in Sampling."""
    last_seed: reactive[int | None] = reactive(None, init=False)
    """The seed of the newest drawn text; None if there is none."""

    def __init__(self) -> None:
        super().__init__(id="sampling")
        self._later = {knob.name: knob.value for knob in MORE}
        """What the fields will hold that are mounted when somebody opens them."""
        self.words: dict[str, tuple[Ids, ...]] = {}
        """Word → the ids of its forms, once the model has answered."""
        self.unusable: dict[str, str] = {}
        """Word → why this model cannot use it."""
        self.by_key: dict[str, int] = {}
        """Word that a key wrote for a token → its id, until the model has cut the word."""

    def _field(self, name: str) -> Field:
        return self.query_one(f"#{name}", Field)

    def _text(self, name: str) -> str:
        """What the field of a setting holds."""
        return self._later[name] if name in self._later else self._field(name).value

    def _write(self, name: str, text: str) -> None:
        if name in self._later:
            self._later[name] = text
        else:
            self._field(name).show(text)

    def set(self, name: str, value: float) -> str:
        """Set the setting with this name; if that cannot be, return the reason."""
        knobs, text = {knob.name: knob for knob in KNOBS}, f"{value:.10g}"
        if name not in knobs:
            near = nearest(name, knobs)
            meant = f" (did you mean {near}?)" if near else ""
            return f"there is no sampling setting {name!r}{meant}"
        try:
            number(knobs[name], text)
        except UserError as error:
            return str(error)
        self._write(name, text)
        return ""

    def numbers(self) -> dict[str, float]:
        """Name → value of every setting whose field holds a number."""
        values = {knob.name: self._text(knob.name) for knob in KNOBS}
        found = dict[str, float]()
        for name, text in values.items():
            with suppress(ValueError):
                found[name] = int(text) if text.isdecimal() else float(text)
        return found

    def setup(self) -> Setup:
        """What all fields hold, of numbers only what can be used."""
        texts = {name: self._text(name) for name in (*(knob.name for knob in KNOBS), *WORDS)}
        texts |= {field.knob.name: field.usable for field in self.query(Dial)}
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

    def reset(self, first: Mapping[str, float]) -> None:
        """Set the fields to the usual preset with these values, and clear the words.

        first: name of a setting → value. The fields of seed and lengths stay, unless they hold
        nothing that can be used.
        """
        self.use_preset(USUAL)
        for field in self.query(Dial):
            if field.problem:
                name = field.knob.name
                self._write(name, f"{first[name]:g}" if name in first else field.knob.value)
        for name in NEUTRAL.keys() & first.keys():
            self.set(name, first[name])
        for name in WORDS:
            self._write(name, "")

    @property
    def preset(self) -> str | None:
        """Name of the preset that the fields show; None if they show another mixture."""
        now = {name: self._text(name) for name in NEUTRAL}
        if self.order:
            return None
        return next((name for name in PRESETS if preset_fields(name) == now), None)

    def toggle_ban(self, token: Step) -> bool:
        """Ban a token or allow it again; returns whether it is banned now."""
        others = [item for item in self._words("banned").items if item not in _names(token)]
        banned = len(others) == len(self._words("banned").items)
        self._words("banned").put([*others, self._named(token)] if banned else others)
        return banned

    def toggle_words(self, text: str) -> bool:
        """The same for exactly this text, which may be several tokens."""
        item, items = exactly(text), self._words("banned").items
        banned = item not in items
        others = [each for each in items if each != item]
        self._words("banned").put([*others, item] if banned else others)
        return banned

    def is_banned(self, token: Step) -> bool:
        """Whether a key or the person banned just this token."""
        return not _names(token).isdisjoint(self._words("banned").items)

    def boost(self, token: Step, by: float) -> float:
        """Add nats to a token's boost; returns the boost."""
        field = self._words("boosted")
        nats, others = by, []
        for item in field.items:
            if item.rpartition(":")[0] in _names(token):
                nats += split_boost(item)[1]
            else:
                others.append(item)
        field.put([*others, f"{self._named(token)}:{nats:g}"] if nats else others)
        return nats

    def _named(self, token: Step) -> str:
        """The word for a token, which acts at once: what the model makes of it is checked later."""
        item = item_of(token)
        if not is_named(item) and item not in self.words:
            self.by_key[item] = token.token_id
            self.words[item] = ((token.token_id,),)
        return item

    def learn(self, word: str, found: tuple[Ids, ...]) -> None:
        """Keep the ids of a word's forms. If they are not those of the token for which a key wrote
        the word, its id takes the word's place."""
        token_id = self.by_key.pop(word, None)
        if token_id is None or found == ((token_id,),):
            self.words[word] = found
            return
        del self.words[word]
        for name in WORDS:
            items = self._words(name).items
            named = [_renamed(item, word, f"#{token_id}") for item in items]
            if named != items:
                self._words(name).put(named)

    def forget(self) -> list[str]:
        """Forget the ids of all words: the model has changed. Returns the tokens that are named by
        an id, which may be others now."""
        self.words.clear()
        self.unusable.clear()
        self.by_key.clear()
        return [item for item in self._all_words() if is_named(item)]

    def unknown_words(self) -> list[str]:
        """Words in the fields whose tokens are not known yet, or not checked."""
        return [
            item
            for item in self._all_words()
            if item in self.by_key or (item not in self.words and item not in self.unusable)
        ]

    def _all_words(self) -> list[str]:
        boosted = (item.rpartition(":")[0] for item in self._words("boosted").items)
        return [*filter(None, dict.fromkeys([*self._words("banned").items, *boosted]))]

    def _words(self, name: str) -> Words:
        return self.query_one(f"#{name}", Words)

    def _number(self, name: str) -> float:
        return number(next(knob for knob in KNOBS if knob.name == name), self._text(name))

    def sampling(self, *, new_seed: bool = True) -> Sampling:
        """The sampling settings. Raises UserError that names a bad one.

        new_seed: an empty seed means a new random one; else the last seed, or 0.
        """
        if not new_seed:
            return self._sampling(seed=self._seed() or self.last_seed or 0)
        given = self._seed()
        found = self._sampling(seed=int.from_bytes(os.urandom(4)) >> 1 if given is None else given)
        self.last_seed = found.seed
        return found

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
            banned=tuple(ids for item in self._words("banned").items for ids in self._ids_of(item)),
            boosted=tuple((ids, nats) for word, nats in boosts for ids in self._ids_of(word)),
            seed=seed,
        )

    def _ids_of(self, word: str) -> tuple[Ids, ...]:
        """The ids of a word's forms."""
        if reason := self.unusable.get(word):
            raise UserError(reason)
        return ids_of(word, self.words)

    def settings(self, length: int | None = None) -> RunSettings:
        """All settings of the next run. Raises UserError that names a bad one.

        length: most tokens of a single branch, instead of the fields for length and branches.
        """
        length, branches = (self.length, self.branches) if length is None else (length, 1)
        sampling = self.sampling()  # last: a run that is refused has no seed
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

    @slide.setter
    def slide(self, is_on: bool) -> None:
        self._slide_box.value = is_on

    @property
    def chat(self) -> bool:
        """Whether a prompt is a message of a chat."""
        return self._chat_box.value


def _names(token: Step) -> set[str]:
    """The words that mean just this token."""
    return {item_of(token), f"#{token.token_id}"}


def _renamed(item: str, word: str, name: str) -> str:
    """A banned word, or a boosted one with its nats, under another name if it is this one."""
    if item == word:
        return name
    return name + item.removeprefix(word) if item.startswith(f"{word}:") else item
