"""The screen: text, prompt, the selected token and the settings, wired to a backend."""

from __future__ import annotations

import gc
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Footer, Input

from gpt.errors import UserError
from gpt.settings import Sampling
from tui import backend as events
from tui.backend import BackendError, Completion, Connect, Connection, EngineDiedError
from tui.document import Document
from tui.screens.branching import Branching
from tui.screens.keeping import Keeping
from tui.screens.modelling import Modelling
from tui.screens.parts import READY
from tui.store import Place
from tui.widgets.inspector import Inspector
from tui.widgets.prompt import Prompt
from tui.widgets.status import Status
from tui.widgets.token_view import TokenView
from tui.widgets.waterfall import WaterfallTable

if TYPE_CHECKING:
    from tui.widgets.controls import Controls

CALM = 0.1
"""Seconds between two looks at the newest token while text streams: more would be a flicker."""
KEEP_EVERY = 10.0
"""Seconds of a long run after which what is there is saved."""
FINISHED = {
    "length": "done: the length that was asked for",
    "eos": "done: the model ended its text",
    "stop": "done: a stop text",
    "context full": "context full: let it slide to go on",
    "cancelled": "stopped",
}


class MainScreen(Keeping, Branching, Modelling):
    """One document and one model."""

    AUTO_FOCUS = "Prompt"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (72, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-low"), (22, "-high")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "home", "stop", id="stop"),
        Binding("ctrl+c", "interrupt", "stop", show=False, priority=True, id="interrupt"),
        Binding("ctrl+n", "new_text", "new text", id="new_text"),
        Binding("f2", "waterfall", "settings at work", id="waterfall"),
        Binding("f5", "measures", "line by line", show=False, id="measures"),
    ]

    def __init__(
        self,
        connect: Connect,
        connection: Connection,
        model: str,
        *,
        prompt: str = "",
        text: Path | None = None,
        score: str = "",
        seed: int | None = None,
        length: int | None = None,
        chat: bool = False,
    ) -> None:
        super().__init__()
        self.connect = connect
        self.model = model
        self.backend, self.answers = connection
        self._first_prompt = prompt
        self._first_text = text
        self._first_score = score
        self._first = {"seed": seed, "length": length}
        self._chat = chat
        self._controls: Controls | None = None
        self.document = Document()
        self.is_writing = False
        """A completion is running or waits for the model."""

    def compose(self) -> ComposeResult:
        """What the first frame needs: where the person writes and where the text will be."""
        yield Status(id="status")
        with Horizontal():
            with Vertical(id="left"):
                yield TokenView(id="text")
                yield WaterfallTable(id="waterfall")
                yield Prompt(id="prompt", placeholder="Write a beginning; the model goes on.")
            with Vertical(id="side"):
                yield Inspector(id="inspector")
        yield Vertical(id="foot")

    def on_mount(self) -> None:
        """Everything else comes after the first frame, while the model loads."""
        self.query_one(TokenView).show(self.document.path)
        self.say(READY)
        self.call_after_refresh(self._complete)

    async def _complete(self) -> None:
        """Fill the places that were kept, and begin."""
        gc.enable()
        from tui.widgets.controls import Controls

        controls = Controls(chat=self._chat)
        await self.query_one("#side").mount(controls)
        await self.query_one("#foot").mount(Footer())
        self.refresh_bindings()  # a footer that comes late has missed their signal
        for name, value in self._first.items():
            if value is not None:
                controls.set(name, value)
        self._controls = controls
        self.load()
        self.open_text(self._first_text)
        if self._first_score:
            self.read(self._first_score)
        if self._first_prompt:
            self.send(self._first_prompt)

    @on(Prompt.Sent)
    def _prompt_sent(self, event: Prompt.Sent) -> None:
        self.send(event.text)

    def send(
        self,
        text: str,
        new_ids: int = 0,
        ids: list[int] | None = None,
        length: int | None = None,
    ) -> None:
        """See Part."""
        prompt, controls = self.query_one(Prompt), self._controls
        if controls is None:
            self._first_prompt = text  # sent so early that there are no settings yet
            return
        try:
            if self.is_writing:
                raise UserError("the model is still writing; Esc stops it")
            path = self.document.ids if ids is None else ids
            if not text and not path:
                raise UserError("write a beginning first")
            request = Completion(
                path,
                text,
                controls.sampling(),
                controls.length if length is None else length,
                slide=controls.slide,
                chat=controls.chat and not new_ids,
                new_ids=new_ids,
            )
            branches = controls.branches if length is None else 1
        except UserError as error:
            prompt.text = text
            self.complain(str(error))
            return
        self.is_writing = True
        self._write(request, branches)

    @work(group="write")
    async def _write(self, request: Completion, branches: int) -> None:
        view, status = self.query_one(TokenView), self.query_one(Status)
        waiting = status.model is None
        self.say(f"waiting for the model: {status.waiting}" if waiting else "reading the prompt")
        try:
            done = await self._stream(request)
            begin = len(self.document.path) - done.tokens
            for i in range(1, branches):
                if done.finish_reason == "cancelled" or not done.tokens:
                    break
                self.document.cut(begin)
                view.show(self.document.path)
                again = replace(request.sampling, seed=(request.sampling.seed + i) % 2**63)
                ids = self.document.ids
                next_one = replace(request, ids=ids, text="", new_ids=0, sampling=again)
                done = await self._stream(next_one)
            self.say(FINISHED.get(done.finish_reason or "", READY))
        except BackendError as error:
            dead = isinstance(error, EngineDiedError)
            self.say("ctrl+r starts the engine again" if dead else READY)
            self.complain(str(error))
            if request.text and not self.document.ids[len(request.ids) :]:
                self.give_back(request.text)
        finally:
            self.is_writing = False
        self.show_token()
        self.keep()

    async def _stream(self, request: Completion) -> events.Done:
        """One run into the document and onto the screen."""
        view, status = self.query_one(TokenView), self.query_one(Status)
        begun, first, was_ready = time.perf_counter(), None, status.model is not None
        drawn, shown, kept = 0, 0.0, begun
        async for event in self.backend.complete(request):
            if isinstance(event, events.Steps):
                self.document.append(event.steps, is_prompt=event.is_prompt)
                if not event.is_prompt:
                    now = time.perf_counter()
                    if first is None:
                        first = now
                        status.first = first - begun if was_ready else None
                        self.say("writing; Esc stops")
                    else:
                        drawn += len(event.steps)
                        status.speed = drawn / (now - first)
                view.extend()
                now = time.perf_counter()
                if now - shown > CALM:
                    self.show_token()
                    shown = now
                if now - kept > KEEP_EVERY:
                    self.keep()
                    kept = now
            elif isinstance(event, events.Done):
                status.speed = event.tokens / event.seconds if event.tokens else None
                return event
        raise BackendError("the engine did not say that it was done")

    @on(TokenView.Selected)
    def show_token(self) -> None:
        """Bring everything that depends on the selected token up to date."""
        index = self.query_one(TokenView).index
        path = self.document.path
        self.query_one(Inspector).step = None if index is None else path[index].step
        status = self.query_one(Status)
        status.used = len(path)
        status.perplexity = self.document.perplexity()
        self._explain()

    def action_home(self) -> None:
        """Stop the model; else lead back to the prompt."""
        if self.is_writing:
            self.backend.cancel()
        else:
            self.query_one(Prompt).focus()

    def action_interrupt(self) -> None:
        """Ctrl-C stops the model; where nothing is written it copies, as everywhere."""
        if not self.is_writing:
            raise SkipAction
        self.backend.cancel()

    def action_waterfall(self) -> None:
        """Show, or hide, what each setting does at the selected token."""
        table = self.query_one(WaterfallTable)
        table.display = not table.display
        self._explain()

    @on(Input.Changed)
    def _explain(self) -> None:
        """Ask anew what the settings do, where that is on the screen."""
        table, index = self.query_one(WaterfallTable), self.query_one(TokenView).index
        if not table.display or self.is_writing or self._controls is None:
            return
        if not index:
            table.found = None
            return
        try:
            sampling = self._controls.sampling(throw=False)
        except UserError:
            return  # half a number: the table waits for the rest
        ids = self.document.ids
        self._ask(ids[:index], ids[index], sampling)

    @work(group="waterfall", exclusive=True)
    async def _ask(self, before: list[int], chosen: int, sampling: Sampling) -> None:
        table = self.query_one(WaterfallTable)
        try:
            found = await self.backend.waterfall(before, chosen, sampling)
        except BackendError as error:
            table.found = None
            self.complain(str(error))
        else:
            table.chosen, table.found = chosen, found

    def action_measures(self) -> None:
        """Numbers of every line."""
        from tui.screens.measures import MeasuresScreen

        steps = [node.step for node in self.document.path]
        if steps and not self.is_writing:
            self.app.push_screen(MeasuresScreen(steps), self._go_to)

    def _go_to(self, index: int | None) -> None:
        if index is not None:
            view = self.query_one(TokenView)
            view.action_select(index)
            view.focus()

    def action_paths(self) -> None:
        """The most probable continuations of the selected token."""
        index = self.query_one(TokenView).index
        if index is not None and not self.is_writing:
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

    def action_new_text(self) -> None:
        """An empty document."""
        if self.is_writing:
            self.complain("the model is still writing; Esc stops it")
            return
        self.begin_text(Document(), Place())
        self.show_token()
        self.say(READY)
        self.query_one(Prompt).focus()

    def on_unmount(self) -> None:
        """No engine outlives its screen, and no text is lost."""
        self.backend.close()
        self.keep_at_last()
