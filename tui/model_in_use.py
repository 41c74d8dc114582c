"""The model that a session works with: loading it, and replacing it by another one; no widgets."""

from __future__ import annotations

from collections.abc import AsyncIterator

from tui.backend import BackendError, Connect, Connection, Event, Loaded, Status
from tui.news import Change, News, Problem, State
from tui.runs import advised
from tui.servers import Servers, with_model


class ModelInUse:
    """A backend with its model. `load` yields what happens."""

    def __init__(self, connect: Connect, connection: Connection, model: str) -> None:
        """connection: a backend that loads the model already; connect starts another one."""
        self.model = model
        """Name or directory of the model."""
        self.models = [model]
        """All models that this program was asked for, in their order."""
        self.backend, self._answers = connection
        self.loaded: Loaded | None = None
        """None until the model is ready."""
        self.waiting = ""
        """What the model is doing until then."""
        self.is_busy = False
        """A run, a reading or a comparison is in progress, or waits for the model."""
        self.servers = Servers()
        """Servers that a model's name may mean."""
        self._connect = connect

    def load(self) -> AsyncIterator[News]:
        """Follow the request for a model that is the latest one now."""
        return self._load(self._answers)

    async def _load(self, answers: AsyncIterator[Event]) -> AsyncIterator[News]:
        try:
            async for event in answers:
                if isinstance(event, Status):
                    self.waiting = event.message
                    yield Change.WAITING
                    if self.is_busy:
                        yield State(f"Waiting for the model: {event.message}")
                elif isinstance(event, Loaded):
                    self.loaded = event
                    self.model = with_model(self.model, event.name)
                    yield Change.LOADED
                    if self.is_busy:
                        yield State("Reading the text; Esc stops")
                    if event.notice:
                        yield Problem(event.notice)
        except BackendError as error:
            self.waiting = f"no model: {error}"
            yield Change.WAITING
            again = "Ctrl+R tries again" if "@" in self.model else ""
            yield Problem(advised(str(error), again))

    def switch(self, model: str, *, probe: bool = False) -> None:
        """Request another model; follow it with `load`.

        probe: measure again what the model's server can answer. Raises BackendError or UserError
        if the model's name means no server that may be asked; then nothing has changed.
        """
        if self.backend.can_load(model):
            self._answers = self.backend.load(model, probe=probe)
        else:  # each server has a process of its own
            connection = self._connect(model)
            self.backend.close()
            self.backend, self._answers = connection
        self.model, self.loaded, self.waiting = model, None, ""
        if model not in self.models:
            self.models.append(model)

    def restart(self) -> None:
        """Start a new backend with the same model; follow it with `load`. The text stays."""
        self.backend.close()  # open requests fail
        self.loaded, self.waiting = None, ""
        self.backend, self._answers = self._connect(self.model)
