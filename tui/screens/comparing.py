"""Two texts or two models side by side: what if, another model, named continuations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType

from gpt.errors import UserError
from gpt.settings import Sampling
from tui import backend as events
from tui.backend import BackendError, Completion
from tui.document import Node
from tui.screens.parts import READY, Part
from tui.widgets.inspector import Inspector
from tui.widgets.token_view import TokenView


class Comparing(Part):
    """The part of the main screen that sets things beside each other."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f8", "what_if", "what if", show=False, id="what_if"),
    ]

    def action_what_if(self) -> None:
        """Throw the same dice with the settings as they are now, beside what was drawn."""
        begin = self._first_drawn()
        if begin is None or self.controls is None:
            return
        old = list(self.document.path)
        try:
            now = self.controls.sampling(throw=False)
        except UserError as error:
            self.complain(str(error))
            return
        sampling = replace(now, seed=_drawn_with(old[begin]).seed)
        selected = self.query_one(TokenView).selected
        self.document.cut(begin)
        self.query_one(TokenView).show(self.document.path)
        self.is_writing = True
        ids = self.document.ids
        request = Completion(ids, "", sampling, len(old) - begin, slide=self.controls.slide)
        self._replay(request, old, begin, selected)

    def _first_drawn(self) -> int | None:
        """The first token from the selected one on that a model has drawn; says where none is."""
        if (index := self.chosen()) is None:
            return None
        drawn = [i for i, node in enumerate(self.document.path) if node.sampling is not None]
        begin = next((i for i in drawn if i >= index), None)
        if begin is None:
            self.complain("nothing was drawn from here on; choose an earlier token")
        return begin

    @work(group="write")
    async def _replay(
        self, request: Completion, old: list[Node], begin: int, selected: int | None
    ) -> None:
        """Draw the other text, return to the one that was there, and show both."""
        from tui.screens.comparison import ComparisonScreen, Side, differences

        before = [replace(node) for node in old]
        await self.run_completion(request, 1)
        new = [replace(node) for node in self.document.path]
        # If both drew the same token, its node has taken the new numbers.
        for node, copy in zip(old, before, strict=True):
            node.become(copy)
        self.document.show(old[-1])
        self.document.cut(len(old))
        view = self.query_one(TokenView)
        view.show(self.document.path)
        if selected is not None:
            view.action_select(selected)
        self.show_token()
        self.keep()
        if len(new) > begin:
            said = f"the same dice; {differences(before[begin].sampling, new[begin].sampling)}"
            sides = Side("as it was", before, begin), Side("what if", new, begin)
            self.app.push_screen(ComparisonScreen(said, *sides), self._say_kept)

    def _say_kept(self, result: None) -> None:
        self.notify("The other text is kept as a branch: ] shows it.", markup=False)

    def action_what_if_beside(self) -> None:
        """Throw the same dice with the same settings and another model."""
        if (begin := self._first_drawn()) is not None:
            self._choose(lambda model: self._write_beside(model, begin))

    def action_compare(self) -> None:
        """Let another model read the text."""
        if self.chosen() is not None:
            self._choose(self._read_beside)

    def _choose(self, then: Callable[[str], object]) -> None:
        from tui.screens.models import ModelPicker

        def chosen(model: str | None) -> None:
            if model is not None:
                self.is_writing = True  # the engine has work, and the text may not change
                then(model)

        self.app.push_screen(ModelPicker(self.model, "a model to set beside this one"), chosen)

    @work(group="write")
    async def _write_beside(self, model: str, begin: int) -> None:
        from tui.screens.comparison import ComparisonScreen, Side

        old = list(self.document.path)
        settings = _drawn_with(old[begin])
        ids = [node.step.token_id for node in old[:begin]]
        request = Completion(
            ids, "", settings, len(old) - begin, slide=True, new_ids=begin, beside=True
        )
        new: list[Node] = []

        async def write(vocab_size: int) -> None:
            self.say(f"{model} is writing; Esc stops")
            async for event in self.backend.complete(request):
                if isinstance(event, events.Steps):
                    new.extend(
                        Node(step, event.is_prompt, sampling=settings) for step in event.steps
                    )

        if await self._beside(model, write):
            first = next((i for i, node in enumerate(new) if not node.is_prompt), len(new))
            sides = Side(self.model, old, begin), Side(model, new, first)
            said = "the same dice and settings; another model"
            self.app.push_screen(ComparisonScreen(said, *sides))

    @work(group="write")
    async def _read_beside(self, model: str) -> None:
        from tui.screens.readings import Reading, ReadingsScreen

        old = list(self.document.path)
        own = Reading(self.model, old, self.query_one(Inspector).vocab_size)
        nodes: list[Node] = []

        async def read(vocab_size: int) -> None:
            self.say(f"{model} reads the text; Esc stops")
            async for event in self.backend.compare(self.document.ids):
                if isinstance(event, events.Steps):
                    nodes.extend(Node(step, is_prompt=False) for step in event.steps)
                elif isinstance(event, events.Compared):
                    other = Reading(model, nodes, vocab_size)
                    self.app.push_screen(ReadingsScreen(own, other, event.divergence))

        await self._beside(model, read)

    async def _beside(self, model: str, job: Callable[[int], Awaitable[None]]) -> bool:
        """Do something with a second model in the engine, which gets the size of its vocabulary;
        whether it went well."""
        self.say(f"loading {model} beside {self.model}")
        went_well = True
        try:
            async for event in self.backend.load(model, beside=True):
                if isinstance(event, events.Loaded):
                    await job(event.vocab_size)
        except BackendError as error:
            went_well = False
            self.complain(str(error))
        finally:
            self.is_writing = False
        with suppress(BackendError):  # an engine that has died says so at the next request
            await self.backend.unload()
        self.say(READY)
        return went_well

    def action_options(self) -> None:
        """Ask how probable each of several continuations is behind the selected token."""
        from tui.screens.options import OptionsScreen

        if (index := self.chosen()) is not None:
            ids = self.document.ids[: index + 1]
            self.app.push_screen(OptionsScreen(self.backend, ids), self._take_option)

    def _take_option(self, text: str | None) -> None:
        index = self.query_one(TokenView).index
        if text and index is not None:
            self.document.cut(index + 1)
            self.query_one(TokenView).show(self.document.path)
            self.send(text, length=0)


def _drawn_with(node: Node) -> Sampling:
    return node.sampling or Sampling()
