"""What the parts of the main screen have in common: a document and a model that writes into it."""

from __future__ import annotations

import gc
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import work
from textual.content import Content
from textual.screen import Screen

from gpt.errors import UserError
from gpt.sanitize import one_line
from tui import backend as events
from tui.backend import Backend, BackendError, Completion, EngineDiedError
from tui.document import Document
from tui.measure import perplexity
from tui.store import Entry, Place
from tui.widgets.prompt import Prompt
from tui.widgets.status import Status
from tui.widgets.token_view import TokenView

if TYPE_CHECKING:
    from tui.widgets.controls import Controls

READY = "Enter sends"
CALM = 0.1
"""Seconds between two looks at the newest token while text streams: more would be a flicker."""
KEEP_EVERY = 10.0
"""Seconds of a long run after which what is there is saved, or more where saving takes long."""
SETTLE_EVERY = 1.0
FINISHED = {
    "length": "done: the length that was asked for",
    "eos": "done: the model ended its text",
    "stop": "done: a stop text",
    "context full": "context full: let it slide to go on",
    "cancelled": "stopped",
}


class Part(Screen[None]):
    """One document, one model, and words for the person."""

    document: Document
    place: Place
    """Where the document is saved."""
    model: str
    """The name or directory that the engine was asked for."""
    backend: Backend
    controls: Controls | None
    """The settings, once they are there."""
    first_prompt: str
    """What is sent as soon as the settings are there."""
    is_writing: bool
    """The document grows by itself just now, or waits for the model to."""

    def say(self, state: str) -> None:
        """What the program is doing, below the prompt."""
        # A plain text here would be read as markup.
        self.query_one(Prompt).border_subtitle = Content(one_line(state))

    def complain(self, message: str) -> None:
        """Say what did not work."""
        self.notify(one_line(message), severity="error", markup=False, timeout=10)

    def is_free(self) -> bool:
        """Whether the text may change now; says why if not."""
        if self.is_writing:
            self.complain("The model is still writing; Esc stops it.")
        return not self.is_writing

    def chosen(self) -> int | None:
        """Index of the selected token, if the text may change now; says why if there is none."""
        if not self.is_free():
            return None
        index = self.query_one(TokenView).index
        if index is None:
            self.complain("There is no text yet; type an opening line and press Enter.")
        return index

    def give_back(self, text: str) -> None:
        """A prompt that came to nothing returns to its field, before what was written since."""
        prompt = self.query_one(Prompt)
        prompt.text = text + prompt.text
        prompt.move_cursor(prompt.document.end)

    def send(
        self,
        text: str,
        new_ids: int = 0,
        ids: list[int] | None = None,
        length: int | None = None,
    ) -> None:
        """Let the model go on from the document, or from ids, and text behind it.

        new_ids: how many of the ids, the last ones, are not in the document yet. length: tokens to
        draw at most; None is what the settings say.
        """
        prompt, controls = self.query_one(Prompt), self.controls
        if controls is None:
            self.first_prompt = text  # sent so early that there are no settings yet
            return
        try:
            if self.is_writing:
                raise UserError("The model is still writing; Esc stops it.")
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
        await self.run_completion(request, branches)

    async def run_completion(self, request: Completion, branches: int) -> None:
        """Draw so many branches into the document, which was cut to where they begin."""
        view, status = self.query_one(TokenView), self.query_one(Status)
        waiting = status.model is None
        self.say(f"waiting for the model: {status.waiting}" if waiting else "reading the prompt")
        before = len(self.document.path)
        try:
            done = await self._stream(request)
            if request.text and done.finish_reason == "cancelled" and not done.tokens:
                # Perhaps only the prompt's beginning was read; sent again, it joins that branch.
                self.document.cut(before)
                view.show(self.document.path)
                self.give_back(request.text)
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
        nats, known = self.document.surprisal()
        async for event in self.backend.complete(request):
            if isinstance(event, events.Steps):
                sampling = None if event.is_prompt else request.sampling
                self.document.append(event.steps, is_prompt=event.is_prompt, sampling=sampling)
                self.settle()
                if not event.is_prompt:
                    now = time.perf_counter()
                    logprobs = [step.logprob for step in event.steps if step.logprob is not None]
                    nats, known = nats - math.fsum(logprobs), known + len(logprobs)
                    status.perplexity = perplexity(nats, known)
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
                if now - kept > max(KEEP_EVERY, 20 * self.place.seconds):
                    self.keep()
                    kept = now
            elif isinstance(event, events.Done):
                view.catch_up()
                status.speed = event.tokens / event.seconds if event.tokens else None
                if status.model:
                    status.model = replace(status.model, **event.how)
                return event
            elif isinstance(event, events.Status):
                if event.is_notice:
                    self.complain(event.message)
                else:
                    self.say(f"{event.message}; Esc stops")
        raise BackendError("the engine did not say that it was done")

    def settle(self) -> None:
        """Once in a while, take the tokens out of the garbage collector's sight.

        They live as long as their text, and looking through a hundred thousand of them stops the
        screen for half a second.
        """
        now = time.perf_counter()
        if now - self._settled > SETTLE_EVERY:
            gc.collect(1)  # what is young may be garbage
            gc.freeze()
            self._settled = now

    _settled = 0.0

    def keep(self) -> object:
        """Save the text soon."""
        raise NotImplementedError

    def show_token(self) -> None:
        """Bring everything that depends on the selected token up to date."""
        raise NotImplementedError

    def learn_words(self) -> object:
        """Ask which tokens the words are that are banned or boosted."""
        raise NotImplementedError

    def opened(self, entry: Entry) -> None:
        """Another text is in its place; entry says with which model it was written."""
        raise NotImplementedError

    def begin_text(self, document: Document, place: Place) -> None:
        """Put a text into the place of the one that is there, which stays on the disk."""
        self.place.release()
        self.document, self.place = document, place
        self.query_one(TokenView).show(document.path)
