"""The engine as a child process. It knows no widget and no torch."""

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
from dataclasses import fields
from typing import IO, Any, TypeVar, cast

from gpt.child import own_code
from gpt.inside import Layer
from gpt.settings import Sampling
from gpt.step import Step
from gpt.waterfall import LikelyPath, Waterfall
from tui.backend import (
    BackendError,
    Compared,
    Completion,
    Done,
    EngineDiedError,
    Event,
    Inside,
    LeftOut,
    Loaded,
    Options,
    Paths,
    Status,
    Steps,
    Tokens,
    Unloaded,
)

Answer = TypeVar("Answer", Waterfall, Paths, Tokens, Inside, LeftOut, Options, Unloaded)


class LocalBackend:
    """The engine as a child process, JSON lines through its pipes.

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
        """engine: the module that runs it, for one that stands in for ours.

        threads: 0 for as many as suit the model. compile: "auto" lets it build machine code for
        a CPU in the background, "on" for a GPU as well.
        """
        self._how = {"device": device, "dtype": dtype, "threads": threads, "compile": compile}
        self._numbers = itertools.count(1)
        self._queues: dict[int, asyncio.Queue[dict[str, Any] | None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._early: list[dict[str, Any] | None] = []
        self._lock = threading.Lock()
        self._dead = False
        self._long: set[int] = set()
        """Requests that run and that `cancel` ends."""
        self._last_words: deque[str] = deque(maxlen=20)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=own_code(),
            start_new_session=True,  # a Ctrl-C in the terminal is ours to handle
        )
        for target, stream in (
            (self._listen, self._process.stdout),
            (self._overhear, self._process.stderr),
        ):
            threading.Thread(target=target, args=(stream,), daemon=True).start()

    def load(self, model: str, *, beside: bool = False) -> AsyncIterator[Event]:
        """Make a model ready. The request is sent at once, before the first answer is awaited."""
        return self._events(self._send("load", model=model, beside=beside, **self._how))

    async def unload(self) -> None:
        """The second model is not needed any more."""
        await self._answer("unload", Unloaded)

    def compare(self, ids: list[int]) -> AsyncIterator[Event]:
        """The second model's Steps of the text of these ids, then Compared."""
        return self._long_events("compare", ids=ids)

    def score(self, text: str) -> AsyncIterator[Event]:
        """A text that exists, as Steps."""
        return self._long_events("score", text=text)

    def complete(self, request: Completion) -> AsyncIterator[Event]:
        """The prompt's new tokens, then drawn ones."""
        return self._long_events(
            "generate",
            ids=request.ids,
            text=request.text,
            echo_from=len(request.ids) - request.new_ids,
            sampling=request.sampling.to_dict(),
            max_new_tokens=request.max_new_tokens,
            slide=request.slide,
            chat=request.chat,
            beside=request.beside,
        )

    async def waterfall(self, ids: list[int], chosen: int, sampling: Sampling) -> Waterfall:
        """What settings do to the token behind ids, where chosen stands."""
        request = {"ids": ids, "chosen": chosen, "sampling": sampling.to_dict()}
        return await self._answer("waterfall", Waterfall, **request)

    async def paths(self, ids: list[int]) -> list[LikelyPath]:
        """The most probable continuations of ids."""
        return (await self._answer("paths", Paths, ids=ids)).paths

    async def inside(self, ids: list[int], chosen: int) -> list[Layer]:
        """What each layer makes of ids, behind which chosen stands."""
        return (await self._answer("inside", Inside, ids=ids, chosen=chosen)).layers

    async def left_out(self, ids: list[int], chosen: int) -> list[float | None]:
        """What chosen owes to each of ids before it."""
        return (await self._answer("left_out", LeftOut, ids=ids, chosen=chosen)).owed

    async def options(self, ids: list[int], options: list[str]) -> list[list[Step]]:
        """What the model thinks of each of these texts behind ids."""
        return (await self._answer("options", Options, ids=ids, options=options)).options

    async def tokens(self, text: str) -> Tokens:
        """A text as the model cuts it."""
        return await self._answer("tokenize", Tokens, text=text)

    async def _answer(self, op: str, kind: type[Answer], **request: Any) -> Answer:
        """A request that has one answer."""
        async for event in self._long_events(op, **request):
            if isinstance(event, kind):
                return event
            if isinstance(event, Done):
                raise BackendError("stopped")
        raise BackendError("the engine did not answer")

    def cancel(self) -> None:
        """End what runs, except loading, as soon as the engine can."""
        for number in self._long:
            self._write({"op": "cancel", "id": number})

    def close(self) -> None:
        """Ends the engine and what it has started, whatever they do."""
        if self._process.poll() is None and hasattr(os, "killpg"):
            os.killpg(self._process.pid, signal.SIGKILL)  # its session is its own
        self._process.kill()

    def _long_events(self, op: str, **fields: Any) -> AsyncIterator[Event]:
        """The answers to a request that `cancel` ends."""
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
            self._dead = True  # whoever waits for an answer is told

    async def _events(self, number: int) -> AsyncIterator[Event]:
        self._attach(asyncio.get_running_loop())
        queue = self._queues[number]
        try:
            while True:
                if self._dead and queue.empty():
                    raise EngineDiedError(self._obituary())
                line = await queue.get()
                await asyncio.sleep(0)  # keys have their turn, too, where the queue is never empty
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
            # It has died in the middle of a line, or is not an engine.
            self._last_words.append("its last line cannot be read")
            self.close()
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
            )
        case "prompt" | "steps" as event:
            return Steps(line["steps"], is_prompt=event == "prompt")
        case "waterfall":
            names = (field.name for field in fields(Waterfall))
            return Waterfall.from_dict({name: line[name] for name in names})
        case "tokens":
            return Tokens(tuple(line["ids"]), [bytes(part) for part in line["bytes"]])
        case "inside":
            return Inside([Layer.from_dict(layer) for layer in line["layers"]])
        case "left_out":
            return LeftOut(line["owed"])
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
            raise BackendError(f"the engine sent an event that is not known here: {other}")
