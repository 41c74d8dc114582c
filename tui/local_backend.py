"""The engine as a child process; no widgets, no torch."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator
from typing import IO, Any, Self, TypeVar, cast

from gpt import models
from gpt.child import child_environment
from gpt.interpret.answers import Layer, LikelyPath, Waterfall
from gpt.settings import Sampling
from gpt.step import Step
from tui.backend import (
    Attribution,
    BackendError,
    CancelledAnswerError,
    Compared,
    Completion,
    Done,
    EngineDiedError,
    Event,
    Layers,
    Loaded,
    Options,
    Paths,
    Status,
    Steps,
    Tokens,
    Unloaded,
)

Answer = TypeVar("Answer", Waterfall, Paths, Tokens, Layers, Attribution, Options, Unloaded)


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
    ) -> None:
        """engine: the module to run; tests use another one.

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
        self._last_words: deque[str] = deque(maxlen=20)
        self._engine = engine

    def start(self) -> Self:
        """Start the engine's process."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", self._engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment(),
            start_new_session=True,  # a Ctrl-C in the terminal is ours to handle
        )
        for target, stream in (
            (self._listen, self._process.stdout),
            (self._overhear, self._process.stderr),
        ):
            threading.Thread(target=target, args=(stream,), daemon=True).start()
        return self

    def load(self, model: str, *, second: bool = False) -> AsyncIterator[Event]:
        """Load a model. The request is sent at once, before anyone awaits an answer."""
        return self._events(self._send("load", model=model, second=second, **self._how))

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
            echo_from=len(request.ids) - request.new_ids,
            sampling=request.sampling.to_dict(),
            max_new_tokens=request.max_new_tokens,
            slide=request.slide,
            chat=request.chat,
            system=request.system,
            second=request.second,
        )

    async def waterfall(self, ids: list[int], chosen: int, sampling: Sampling) -> Waterfall:
        """What the settings do to the distribution after ids; chosen is the token there."""
        request = {"ids": ids, "chosen": chosen, "sampling": sampling.to_dict()}
        return await self._answer("waterfall", Waterfall, **request)

    async def paths(self, ids: list[int]) -> list[LikelyPath]:
        """The most probable continuations of ids."""
        return (await self._answer("paths", Paths, ids=ids)).paths

    async def layers(self, ids: list[int], chosen: int) -> list[Layer]:
        """Each layer's guess after ids; chosen is the token there."""
        return (await self._answer("layers", Layers, ids=ids, chosen=chosen)).layers

    async def attribution(self, ids: list[int], chosen: int) -> list[float | None]:
        """Influence of each of ids on chosen, the token after them, in nats."""
        return (await self._answer("attribution", Attribution, ids=ids, chosen=chosen)).nats

    async def options(self, ids: list[int], options: list[str]) -> list[list[Step]]:
        """The Steps of each of these texts after ids."""
        return (await self._answer("options", Options, ids=ids, options=options)).options

    async def tokens(self, text: str) -> Tokens:
        """A text as the model's tokens."""
        return await self._answer("tokenize", Tokens, text=text)

    async def _answer(self, op: str, kind: type[Answer], **request: Any) -> Answer:
        """Send a request that has one answer, and wait for it."""
        async for event in self._long_events(op, **request):
            if isinstance(event, kind):
                return event
            if isinstance(event, Done):
                raise CancelledAnswerError("stopped")
        raise BackendError("the engine did not answer")

    def cancel(self) -> None:
        """Stop all requests except loading as soon as the engine can."""
        for number in self._long:
            self._write({"op": "cancel", "id": number})

    def close(self) -> None:
        """Kill the engine and the processes that it started."""
        self._is_closed = True
        self._kill()

    def _kill(self) -> None:
        if self._process.poll() is None and hasattr(os, "killpg"):
            os.killpg(self._process.pid, signal.SIGKILL)  # its session is its own
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
            stdin = cast(IO[bytes], self._process.stdin)
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
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
                    raise EngineDiedError(self._obituary())
                line = await queue.get()
                await asyncio.sleep(0)  # let keys have their turn if the queue is never empty
                if line is None:
                    continue
                if line["event"] == "error":
                    raise BackendError(line["message"])
                event = _event(line)
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

    def _listen(self, stream: IO[bytes]) -> None:
        try:
            for raw in stream:
                line = json.loads(raw)
                if "steps" in line:
                    line["steps"] = [Step.from_dict(step) for step in line["steps"]]
                self._deliver(line)
        except (ValueError, TypeError, KeyError, AttributeError):
            # It died in the middle of a line, or it is not an engine.
            self._last_words.append("its last line cannot be read")
            self._kill()
        finally:
            self._process.wait()
            self._deliver(None)

    def _overhear(self, stream: IO[bytes]) -> None:
        for raw in stream:
            self._last_words.append(raw.decode("utf-8", "replace").strip())

    def _deliver(self, line: dict[str, Any] | None) -> None:
        with self._lock:
            if self._loop is None:
                self._early.append(line)
            elif not self._loop.is_closed():
                self._loop.call_soon_threadsafe(self._dispatch, line)

    def _dispatch(self, line: dict[str, Any] | None) -> None:
        if line is None:
            self._dead = True
            for queue in self._queues.values():
                queue.put_nowait(None)
        elif (number := line.get("id")) in self._queues:
            self._queues[number].put_nowait(line)

    def _obituary(self) -> str:
        status = self._process.poll()
        ended = f"by signal {-status}" if status and status < 0 else f"with status {status}"
        last = next((words for words in reversed(self._last_words) if words), "it said nothing")
        return f"the engine has ended {ended}: {last}"


def _event(line: dict[str, Any]) -> Event:
    match line["event"]:
        case "status":
            return Status(line["message"], line.get("is_notice", False))
        case "loaded":
            return Loaded(
                line["name"],
                line["device"],
                line["dtype"],
                line["manifest"]["n_params"],
                line["config"]["vocab_size"],
                line["config"]["block_size"],
                line.get("compiled", False),
                line.get("notice", ""),
                models.divergence(line["manifest"].get("origin", {})),
            )
        case "prompt" | "steps" as event:
            return Steps(line["steps"], is_prompt=event == "prompt")
        case "waterfall":
            return Waterfall.from_dict({name: line[name] for name in Waterfall._fields})
        case "tokens":
            return Tokens(tuple(line["ids"]), [bytes(part) for part in line["bytes"]])
        case "layers":
            return Layers([Layer.from_dict(layer) for layer in line["layers"]])
        case "attribution":
            return Attribution(line["nats"])
        case "options":
            return Options([[Step.from_dict(step) for step in one] for one in line["options"]])
        case "compared":
            return Compared(line["divergence"])
        case "unloaded":
            return Unloaded()
        case "paths":
            return Paths([LikelyPath.from_dict(path) for path in line["paths"]])
        case "done":
            return Done(
                line["finish_reason"],
                line["tokens"],
                line["seconds"],
                {name: line[name] for name in ("device", "dtype", "compiled") if name in line},
            )
        case other:
            raise BackendError(f"the engine sent an unknown event: {other}")
