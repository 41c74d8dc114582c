"""Which model reads and writes the text: loaded, changed, started again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType

from gpt import models
from gpt.errors import UserError
from tui import backend as events
from tui.backend import BackendError, Connect
from tui.document import Document
from tui.screens.parts import READY, Part
from tui.store import Entry, Place
from tui.widgets.inspector import Inspector
from tui.widgets.status import Status
from tui.widgets.token_view import TokenView


class Modelling(Part):
    """The part of the main screen that knows models."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+o", "models", "models", id="models"),
        Binding("ctrl+r", "restart", "restart the engine", show=False, id="restart"),
    ]

    connect: Connect
    answers: AsyncIterator[events.Event]
    """To the last load request."""

    @work(group="load")
    async def load(self) -> None:
        """Take the answers to a load request."""
        status = self.query_one(Status)
        try:
            async for event in self.answers:
                if isinstance(event, events.Status):
                    status.waiting = event.message
                    if self.is_writing:
                        self.say(f"waiting for the model: {event.message}")
                elif isinstance(event, events.Loaded):
                    status.model = event
                    if self.is_writing:
                        self.say("reading the text; Esc stops")
                    if event.notice:
                        self.complain(event.notice)
                    self.query_one(Inspector).vocab_size = event.vocab_size
                    if self.controls:
                        self.controls.words.clear()
                        self.learn_words()
        except BackendError as error:
            status.waiting = f"no model: {error}"
            self.complain(str(error))

    def action_models(self) -> None:
        """Choose another model; the text on the screen goes with it."""
        from tui.screens.models import ModelPicker

        if not self.is_free():
            return
        self.app.push_screen(ModelPicker(self.model), self._change_model)

    def _change_model(self, model: str | None) -> None:
        if model is None or model == self.model:
            return
        self._switch(model)
        if self.document.path:
            self._read_again()

    def _switch(self, model: str) -> None:
        self.model = model
        status = self.query_one(Status)
        status.model, status.speed, status.waiting = None, None, ""
        self.answers = self.backend.load(model)
        self.load()

    def opened(self, entry: Entry) -> None:
        """A text goes on with the model that wrote it, or is read anew by the one that is here."""
        self.show_token()
        self.say(READY)
        if entry.model == self.model:
            return
        try:
            models.find(entry.model)
        except UserError as error:
            self.complain(f"{error}; {self.model} reads the text instead")
            self._read_again()
        else:
            self._switch(entry.model)

    def read(self, text: str, written: bytes = b"") -> None:
        """Begin a text with one that exists, as the model cuts and judges it.

        written: a byte for every byte of the text, 1 where the person wrote it; beyond its end
        all is.
        """
        self.is_writing = True
        self._read(text, written)

    @work(group="write")
    async def _read(self, text: str, written: bytes) -> None:
        view = self.query_one(TokenView)
        self.begin_text(Document(), Place())
        self.say("reading the text; Esc stops")
        done, stopped = 0, False
        try:
            async for event in self.backend.score(text):
                if isinstance(event, events.Status):
                    self.say(f"{event.message}; Esc stops")
                elif isinstance(event, events.Done):
                    stopped = event.finish_reason == "cancelled"
                elif isinstance(event, events.Steps):
                    for step in event.steps:
                        is_prompt = done >= len(written) or bool(written[done])
                        self.document.append([step], is_prompt=is_prompt)
                        done += len(step.bytes)
                    self.settle()
                    view.extend()
            view.catch_up()
            if not written:
                view.action_select(0)  # a text to be read is read from its beginning
            self.say("stopped: the rest of the text was not read" if stopped else READY)
        except BackendError as error:
            self.complain(str(error))
            self.give_back(text)
            self.say(READY)
        finally:
            self.is_writing = False
        self.show_token()
        self.keep()

    def _read_again(self) -> None:
        """The path as the new model cuts and judges it; its other branches stay in its file."""
        path = self.document.path
        written = b"".join(bytes([node.is_prompt]) * len(node.step.bytes) for node in path)
        self.read(self.document.text, written)

    def action_restart(self) -> None:
        """A new engine with the same model; the text stays."""
        self.backend.close()  # whoever waits for it is told that it has ended
        self.query_one(Status).model = None
        self.say(READY)
        self.backend, self.answers = self.connect(self.model)
        self.load()
