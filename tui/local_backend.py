"""The engine as a child process; no widgets, no torch."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from gpt.errors import UserError
from gpt.interpret.answers import Layer, LikelyPath, Waterfall
from gpt.settings import Sampling
from gpt.step import Step
from tui.backend import (
    Attribution,
    BackendError,
    CancelledAnswerError,
    Completion,
    Done,
    EngineDiedError,
    Event,
    Found,
    Layers,
    Options,
    Paths,
    Status,
    Steps,
    Tell,
    Tokens,
    Unloaded,
)
from tui.changes import as_fields
from tui.engine_events import event_of, looked
from tui.engine_process import EngineProcess
from tui.servers import Server, Servers

if TYPE_CHECKING:
    from gpt.interventions import Intervention

Answer = TypeVar("Answer", Waterfall, Paths, Tokens, Layers, Attribution, Options, Unloaded)
_STOPPED = {"event": "done", "finish_reason": "cancelled", "tokens": 0, "seconds": 0.0}
"""The answer to a request that was stopped before the engine began it."""


class LocalBackend:
    """Talks to the engine in JSON lines through its pipes.

    Requests may be sent before an event loop runs: their answers wait.
    """

    def __init__(
        self,
        device: str = "auto",
        dtype: str = "auto",
        engine: str = "gpt.engine",
        threads: int = 0,
        compile: str = "off",
        servers: Servers | None = None,
    ) -> None:
        """engine: the module to run; tests use another one. servers: those that a model's name may
        mean.

        threads: 0 lets the engine choose. compile: "auto" builds machine code for a CPU in the
        background, "on" for a GPU as well.
        """
        self._how = {"device": device, "dtype": dtype, "threads": threads, "compile": compile}
        self._numbers = itertools.count(1)
        self._queues: dict[int, asyncio.Queue[dict[str, Any] | None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._early: list[dict[str, Any] | None] = []
        self._lock = threading.Lock()
        self._dead = False
        self._is_closed = False
        self._long: set[int] = set()
        """Numbers of the running requests that `cancel` stops."""
        self._loads: set[int] = set()
        """Numbers of the requests for models that are not loaded yet."""
        self._engine = engine
        self._servers = servers or Servers()
        self._server: Server | None = None

    def start(self, server: Server | None = None) -> Self:
        """Start the engine's process, which asks this server or runs models itself."""
        self._server, options = server, list[str]()
        if server:
            options = ["--server", server.address.url]
            if server.api_key_env:  # the key itself is in the environment, where nobody lists it
                options += ["--api-key-env", server.api_key_env]
        self._process = EngineProcess(self._engine, options, self._deliver)
        self._process.start()
        return self

    def load(
        self, model: str, *, second: bool = False, probe: bool = False
    ) -> AsyncIterator[Event]:
        """Load a model. The request is sent at once, before anyone awaits an answer."""
        fields = {**self._how, "model": model, "second": second}
        try:
            server = self._servers.find(model)
            if server:
                self._servers.check(server)
                fields |= {"model": server.model, "probe": probe}
                if second:
                    fields |= {"server": server.address.url, "api_key_env": server.api_key_env}
            elif second and self._server:
                fields |= {"here": True}
        except UserError as error:
            raise BackendError(str(error)) from error
        number = self._send("load", **fields)
        self._loads.add(number)
        return self._events(number)

    def can_load(self, model: str) -> bool:
        """Whether this process can run the model: each server has a process of its own."""
        try:
            return _place(self._servers.find(model)) == _place(self._server)
        except UserError:
            return False

    async def unload(self) -> None:
        """Drop the second model."""
        await self._answer("unload", Unloaded)

    def compare(self, ids: list[int]) -> AsyncIterator[Event]:
        """The second model's Steps of the text of these ids, then Compared."""
        return self._long_events("compare", ids=ids)

    def score(self, text: str) -> AsyncIterator[Event]:
        """The Steps of an existing text."""
        return self._long_events("score", text=text)

    def complete(self, request: Completion) -> AsyncIterator[Event]:
        """The Steps of the prompt's new tokens, then of sampled ones."""
        return self._long_events(
            "generate",
            ids=request.ids,
            text=request.text,
            segments=request.segments,
            echo_from=len(request.ids) - request.new_ids,
            sampling=request.sampling.to_dict(),
            max_new_tokens=request.max_new_tokens,
            slide=request.slide,
            chat=request.chat,
            system=request.system,
            second=request.second,
            branches=request.branches,
            **as_fields(request.changes),
        )

    async def waterfall(
        self,
        ids: list[int],
        chosen: int,
        sampling: Sampling,
        changes: tuple[Intervention, ...] = (),
        also: Sequence[int] = (),
    ) -> Waterfall:
        """What changes inside, then the settings, do to the distribution after ids."""
        request = {"ids": ids, "chosen": chosen, "sampling": sampling.to_dict(), "also": [*also]}
        return await self._answer("waterfall", Waterfall, **request, **as_fields(changes))

    async def paths(
        self, ids: list[int], changes: tuple[Intervention, ...] = ()
    ) -> list[LikelyPath]:
        """The most probable continuations of ids."""
        return (await self._answer("paths", Paths, ids=ids, **as_fields(changes))).paths

    async def layers(
        self, ids: list[int], chosen: int, changes: tuple[Intervention, ...] = ()
    ) -> list[Layer]:
        """Each layer's guess after ids; chosen is the token there."""
        request = {"ids": ids, "chosen": chosen}
        return (await self._answer("layers", Layers, **request, **as_fields(changes))).layers

    async def attribution(
        self, ids: list[int], chosen: int, changes: tuple[Intervention, ...] = ()
    ) -> list[float | None]:
        """Influence of each of ids on chosen, the token after them, in nats."""
        request = {"ids": ids, "chosen": chosen, **as_fields(changes)}
        return (await self._answer("attribution", Attribution, **request)).nats

    async def options(
        self, ids: list[int], options: list[str], changes: tuple[Intervention, ...] = ()
    ) -> list[list[Step]]:
        """The Steps of each of these texts after ids."""
        request = {"ids": ids, "options": options}
        return (await self._answer("options", Options, **request, **as_fields(changes))).options

    async def tokens(self, text: str) -> Tokens:
        """A text as the model's tokens."""
        return await self._answer("tokenize", Tokens, text=text)

    async def look(self, op: str, kind: type[Found], tell: Tell, **fields: Any) -> Found:
        """Send a request about the inside of the network; its answer as a record of this kind."""
        changes = fields.pop("interventions", ())
        number = self._send(op, **fields, **as_fields(changes))
        self._long.add(number)
        try:
            return await looked(self._events(number), kind, tell)
        except asyncio.CancelledError:  # nobody waits for the answer any more
            self._write({"op": "cancel", "id": number})
            raise

    async def _answer(self, op: str, kind: type[Answer], **request: Any) -> Answer:
        """Send a request that has one answer, and wait for it."""
        async for event in self._long_events(op, **request):
            if isinstance(event, kind):
                return event
            if isinstance(event, Done):
                raise CancelledAnswerError("stopped")
        raise BackendError("the engine did not answer")

    def stop(self, branch: int) -> None:
        """Stop one branch of the running completion; the others go on."""
        for number in self._long:  # a request without branches takes no notice
            self._write({"op": "cancel", "id": number, "branch": branch})

    def cancel(self) -> None:
        """Stop all requests except loading as soon as the engine can."""
        for number in self._long:
            self._write({"op": "cancel", "id": number})
            if self._loads:  # nobody interrupts that, and what waits for it has not begun
                self._queues[number].put_nowait(_STOPPED)

    def close(self) -> None:
        """Kill the engine and the processes that it started."""
        self._is_closed = True
        self._process.kill()

    def _long_events(self, op: str, **fields: Any) -> AsyncIterator[Event]:
        """The answers to a request that `cancel` stops."""
        number = self._send(op, **fields)
        self._long.add(number)
        return self._events(number)

    def _send(self, op: str, **fields: Any) -> int:
        number = next(self._numbers)
        self._queues[number] = asyncio.Queue()
        self._write({"id": number, "op": op, **fields})
        return number

    def _write(self, request: dict[str, Any]) -> None:
        try:
            self._process.write(request)
        except OSError:
            self._dead = True  # requests that wait for an answer are told

    async def _events(self, number: int) -> AsyncIterator[Event]:
        self._attach(asyncio.get_running_loop())
        queue = self._queues[number]
        try:
            while True:
                if self._is_closed:
                    raise BackendError("stopped: the engine was restarted")
                if self._dead and queue.empty():
                    raise EngineDiedError(self._process.obituary())
                line = await queue.get()
                await asyncio.sleep(0)  # let keys have their turn if the queue is never empty
                if line is None:
                    continue
                if line["event"] == "error":
                    raise BackendError(line["message"])
                event = event_of(line)
                yield event
                if not isinstance(event, Status | Steps):
                    return
        finally:
            del self._queues[number]
            self._long.discard(number)

    def _attach(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._loop = loop
            early, self._early = self._early, []
        for line in early:
            self._dispatch(line)

    def _deliver(self, line: dict[str, Any] | None) -> None:
        with self._lock:
            if self._loop is None:
                self._early.append(line)
            elif not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._dispatch, line)

    def _dispatch(self, line: dict[str, Any] | None) -> None:
        if line is None:
            self._dead = True
        elif line["event"] in ("loaded", "error"):
            self._loads.discard(line.get("id", 0))
        for number, queue in self._queues.items():
            if line is None or line.get("id") == number:
                queue.put_nowait(line)


def _place(server: Server | None) -> tuple[str, str] | None:
    """What a process is started with."""
    return (server.address.url, server.api_key_env) if server else None
