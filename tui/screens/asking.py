"""Questions to the model about the text that is there, and the same dice with other settings."""

from __future__ import annotations

import math
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input

from gpt.errors import UserError
from gpt.sanitize import one_line
from gpt.settings import Sampling
from gpt.words import BYTES, forms
from tui.backend import BackendError
from tui.document import Node
from tui.heat import between
from tui.screens.parts import Part
from tui.widgets.inspector import visible
from tui.widgets.prompt import Prompt
from tui.widgets.status import Status
from tui.widgets.token_view import TokenView
from tui.widgets.waterfall import WaterfallTable, as_drawn

SHOWN = 8
"""Tokens of what is being written that are shown one by one, the last ones."""


def cut(parts: list[bytes], *, joins_spaces: bool) -> str:
    """What is to be said of a text that is cut like this; nothing of an empty one."""
    if not parts:
        return ""
    last = "│".join(visible(part, 0) for part in parts[-SHOWN:])
    more = "…" if len(parts) > SHOWN else ""
    noun = "token" if len(parts) == 1 else "tokens"
    said = f"{len(parts)} {noun}: {more}{last}"
    if joins_spaces and parts[-1] == b" ":
        said += "   a space at the end: this model begins its words with one, leave it out"
    return said


class Asking(Part):
    """The part of the main screen that knows what can be asked at a token."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f2", "waterfall", "settings at work", id="waterfall"),
        Binding("f9", "preset", "next preset of settings", show=False, id="preset"),
        Binding("f5", "measures", "line by line", show=False, id="measures"),
    ]

    def action_waterfall(self) -> None:
        """Show, or hide, what each setting does at the selected token."""
        table = self.query_one(WaterfallTable)
        table.display = not table.display
        self.explain()

    @on(Input.Changed)
    def explain(self) -> None:
        """Ask anew what the settings do, where that is on the screen."""
        table, index = self.query_one(WaterfallTable), self.query_one(TokenView).index
        if not table.display or self.is_writing or self.controls is None:
            return
        if not index:
            table.found = None
            return
        try:
            sampling = self.controls.sampling(throw=False)
        except UserError:
            return  # half a number: the table waits for the rest
        ids = self.document.ids
        self._ask(ids[:index], self.document.path[index], sampling)

    @work(group="waterfall", exclusive=True)
    async def _ask(self, before: list[int], node: Node, sampling: Sampling) -> None:
        table, chosen = self.query_one(WaterfallTable), node.step.token_id
        try:
            found = await self.backend.waterfall(before, chosen, sampling)
        except BackendError as error:
            table.found = None
            self.complain(str(error))
        else:
            table.chosen, table.found = (
                chosen,
                as_drawn(found, node.step, same_settings=sampling == node.sampling),
            )

    @on(Prompt.Changed)
    def _cut(self) -> None:
        """Show how the model cuts what is being written, if it can be asked just now."""
        prompt = self.query_one(Prompt)
        if not prompt.text:
            prompt.border_title = ""
        elif not self.is_writing and self.query_one(Status).model:
            self._ask_tokens(prompt.text)

    @work(group="tokens", exclusive=True)
    async def _ask_tokens(self, text: str) -> None:
        try:
            parts = (await self.backend.tokens(text)).parts
        except BackendError as error:
            self.query_one(Prompt).border_title = Content(one_line(str(error)))
            return
        model = self.query_one(Status).model
        joins_spaces = model is not None and model.vocab_size > BYTES
        self.query_one(Prompt).border_title = Content(cut(parts, joins_spaces=joins_spaces))

    def action_measures(self) -> None:
        """Numbers of every line."""
        from tui.screens.measures import MeasuresScreen

        steps = [node.step for node in self.document.path]
        if self.chosen() is not None:
            self.app.push_screen(MeasuresScreen(steps), self._go_to)

    def _go_to(self, index: int | None) -> None:
        if index is not None:
            view = self.query_one(TokenView)
            view.action_select(index)
            view.focus()

    def action_paths(self) -> None:
        """The most probable continuations of the selected token."""
        if (index := self.chosen()) is not None:
            self._find_paths(self.document.ids[: index + 1])

    @work(group="paths", exclusive=True)
    async def _find_paths(self, ids: list[int]) -> None:
        from tui.screens.paths import PathsScreen

        try:
            found = await self.backend.paths(ids)
        except BackendError as error:
            self.complain(str(error))
            return
        self.app.push_screen(PathsScreen(found), lambda taken: self._take_path(len(ids), taken))

    def _take_path(self, at: int, taken: list[int] | None) -> None:
        """Put the tokens of a path behind the token that it was found for."""
        if taken:
            self.document.cut(at)
            self.query_one(TokenView).show(self.document.path)
            self.send("", len(taken), self.document.ids + taken, length=0)

    def action_inside(self) -> None:
        """What each layer would say at the selected token, and where it looks."""
        index = self.chosen()
        if index:
            self._look_inside(index)
        elif index == 0:
            self.complain("nothing stands before the first token, so no layer has seen anything")

    @work(group="inside", exclusive=True)
    async def _look_inside(self, index: int) -> None:
        from tui.screens.inside import InsideScreen

        nodes = self.document.path[: index + 1]
        ids = [node.step.token_id for node in nodes]
        try:
            found = await self.backend.inside(ids[:-1], ids[-1])
        except BackendError as error:
            self.complain(str(error))
            return
        self.app.push_screen(InsideScreen(nodes, found))

    def action_owes(self) -> None:
        """Colour the text by what the selected token owes to each before it."""
        index = self.chosen()
        if index:
            self._find_owed(index)
        elif index == 0:
            self.complain("nothing stands before the first token, so it owes nothing to any")

    @work(group="inside", exclusive=True)
    async def _find_owed(self, index: int) -> None:
        ids, step = self.document.ids, self.document.path[index].step
        try:
            owed = await self.backend.left_out(ids[:index], ids[index])
        except BackendError as error:
            self.complain(str(error))
            return
        bits = [None if nats is None else nats / math.log(2) for nats in owed]
        name = visible(step.bytes, step.token_id)
        title = f"coloured by the bits that {name} at {index} owes to each"
        self.query_one(TokenView).set_scale(between(title, bits))

    def action_preset(self) -> None:
        """Turn the dials to the next preset."""
        if self.controls:
            self.controls.next_preset()

    def action_ban(self) -> None:
        """Never draw the selected token again, or allow it again."""
        index = self.query_one(TokenView).index
        if index is None or self.controls is None:
            return
        step = self.document.path[index].step
        banned = self.controls.toggle_ban(step.token_id)
        name = visible(step.bytes, step.token_id)
        self.notify(f"{name} is {'banned' if banned else 'allowed'} from now on", markup=False)

    def action_boost(self, nats: float) -> None:
        """Make the selected token more, or less, likely from now on."""
        index = self.query_one(TokenView).index
        if index is None or self.controls is None:
            return
        step = self.document.path[index].step
        try:
            now = self.controls.boost(step.token_id, nats)
        except UserError as error:
            self.complain(str(error))
            return
        name = visible(step.bytes, step.token_id)
        self.notify(f"{name} gets {now:+g} nats from now on", markup=False)

    @on(Input.Changed, "#banned, #boosted")
    @work(group="words", exclusive=True)
    async def learn_words(self) -> None:
        """Ask which tokens the words are that are banned or boosted."""
        controls, model = self.controls, self.query_one(Status).model
        if controls is None or model is None:
            return
        for word in controls.unknown_words():
            try:
                cut = [await self.backend.tokens(form) for form in forms(word, model.vocab_size)]
            except BackendError as error:
                self.complain(f"{word!r}: {error}")
            else:
                controls.words[word] = tuple(tokens.ids for tokens in cut)
        controls.check()
        self.explain()
