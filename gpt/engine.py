"""Serves one model at a time to another process: JSON lines on stdin and stdout.

`python -m gpt.engine`; docs/engine.md describes the lines. It knows no terminal. torch is
imported with the first model, so that the first line is out at once.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any

import gpt
from gpt import models
from gpt.errors import UserError
from gpt.request import Request, path_of, text, texts, typed, whole
from gpt.settings import Sampling
from gpt.step import Step

if TYPE_CHECKING:
    from gpt.checkpoint import Checkpoint
    from gpt.context import Context
    from gpt.ready import Pair, Ready

BATCH_SECONDS = 0.016
"""Steps are sent once a screen frame, so that no reader has more than that to do at a time."""
BATCH_STEPS = 64


class Engine:
    """Answers requests in their order; only cancel overtakes."""

    def __init__(self, output: IO[str]) -> None:
        self._output = output
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._cancelled: set[Any] = set()
        self._pair: Pair | None = None
        """None until the first load request, which imports torch."""
        self._has_answered = False
        """Whether Steps of the request in hand were sent."""

    def read(self, lines: Iterator[bytes]) -> None:
        """Take requests until the input ends. Runs in a thread of its own."""
        for line in lines:
            try:
                request = json.loads(line)
                if not isinstance(request, dict) or request.get("op") not in _KNOWN:
                    raise ValueError("a request is an object with a known op")
                hash(request.get("id"))
            except (ValueError, TypeError, RecursionError) as error:
                self._requests.put({"op": None, "error": f"cannot understand a line: {error}"})
                continue
            if request["op"] == "cancel":
                self._cancelled.add(request.get("id"))
            else:
                self._requests.put(request)
        self._requests.put(None)

    def serve(self) -> None:
        """Answer until the input has ended and everything is answered."""
        self._send(None, "hello", version=gpt.__version__, format_version=models.FORMAT_VERSION)
        while (request := self._requests.get()) is not None:
            request_id = request.get("id")
            self._has_answered = False
            try:
                if request["op"] is None:
                    raise UserError(request["error"])
                self._answer(request)
            except BrokenPipeError:
                raise
            except UserError as error:
                self._send(request_id, "error", message=str(error))
            except MemoryError:
                self._send(request_id, "error", message="there is not enough memory for this")
            except Exception as error:  # a bug of ours must not take the session with it
                traceback.print_exc()
                name = type(error).__name__
                self._send(request_id, "error", message=f"the engine failed: {name}: {error}")

    def _answer(self, request: Request) -> None:
        """Run an operation; where the GPU fails before its first answer, once more on the CPU."""
        operation = _OPERATIONS[request["op"]]
        try:
            operation(self, request)
        except Exception as error:
            if self._pair is None:
                raise
            from gpt import device

            if not device.is_lost(error) or not self._pair.leave_gpu():
                raise
            notice = f"{device.describe(error)}; the model runs on the CPU from now on"
            if self._has_answered:
                raise UserError(notice) from error
            self._send(request.get("id"), "status", message=notice)
            operation(self, request)

    def _load(self, request: Request) -> None:
        request_id, beside = request.get("id"), typed(request, "beside", bool, False)
        started = time.perf_counter()
        directory = models.find(text(request, "model", models.EMBEDDED))
        if "torch" not in sys.modules:
            self._send(request_id, "status", message="loading PyTorch")
        from gpt.ready import Pair

        self._pair = self._pair or Pair()
        self._send(request_id, "status", message=f"loading {directory.name}")
        ready = self._pair.load(
            beside,
            directory,
            where=text(request, "device", "auto"),
            dtype=text(request, "dtype", "auto"),
            threads=whole(request, "threads", 0) or None,
            spare=1,  # for whoever reads our lines
            compile=text(request, "compile", "off"),
        )
        self._send(
            request_id,
            "loaded",
            name=ready.checkpoint.name,
            manifest=asdict(ready.checkpoint.manifest),
            config=ready.checkpoint.model.config.to_dict(),
            **ready.how(),
            notice=ready.notice,
            seconds=time.perf_counter() - started,
        )

    def _models(self, request: Request) -> None:
        found = {name: asdict(manifest) for name, manifest in models.available().items()}
        self._send(request.get("id"), "models", models=found)

    def _tokenize(self, request: Request) -> None:
        checkpoint, _ = self._loaded(request)
        ids = checkpoint.tokenizer.encode(text(request, "text"))
        parts = [list(checkpoint.tokenizer.token_bytes(i)) for i in ids]
        self._send(request.get("id"), "tokens", ids=ids, bytes=parts)

    def _score(self, request: Request) -> None:
        from gpt.generate import score

        checkpoint, context = self._loaded(request)
        started = time.perf_counter()
        ids, top = self._ids(request), whole(request, "top", 10)
        steps = score(checkpoint, context, ids, top=top, cancelled=self._cancel_check(request))
        count, _ = self._stream(request.get("id"), "steps", steps)
        self._send(
            request.get("id"),
            "done",
            finish_reason=None if count == len(ids) else "cancelled",
            tokens=count,
            seconds=time.perf_counter() - started,
        )

    def _ask(self, request: Request) -> None:
        from gpt.questions import QUESTIONS

        question = QUESTIONS[request["op"]]
        ids, cancelled = self._ids(request), self._cancel_check(request)
        answer = question(*self._loaded(request), ids, request, cancelled)
        self._send(request.get("id"), request["op"], **answer)

    def close(self) -> None:
        """End what was started in the background."""
        if self._pair:
            self._pair.close()

    def _unload(self, request: Request) -> None:
        if self._pair:
            self._pair.forget(True)
        self._send(request.get("id"), "unloaded")

    def _compare(self, request: Request) -> None:
        from gpt.compare import divergence, same_vocabulary
        from gpt.generate import score

        own, in_own = self._loaded(request)
        other, in_other = self._loaded({"beside": True})
        cancelled, ids = self._cancel_check(request), self._ids(request)
        theirs, top = self._ids({**request, "beside": True}), whole(request, "top", 10)
        steps = score(other, in_other, theirs, top=top, cancelled=cancelled)
        self._stream(request.get("id"), "steps", steps)
        found = None
        if same_vocabulary(own, other):
            found = divergence(own, in_own, other, in_other, ids, cancelled=cancelled)
        self._send(request.get("id"), "compared", divergence=found)

    def _generate(self, request: Request) -> None:
        from gpt.chat import turn
        from gpt.compare import translate_settings
        from gpt.generate import blocked, generate, score

        checkpoint, context = self._loaded(request)
        how = self._ready(request).how()
        request_id, cancelled = request.get("id"), self._cancel_check(request)
        ids, top = self._ids(request), whole(request, "top", 10)
        sampling = Sampling.from_dict(typed(request, "sampling", dict, {}))
        if request.get("beside"):
            sampling = translate_settings(self._loaded({})[0], checkpoint, sampling)
        max_new_tokens = whole(request, "max_new_tokens", 200)
        slide = typed(request, "slide", bool, False)
        stop = texts(request, "stop", [])
        if typed(request, "chat", bool, False) and (said := text(request, "text", "")):
            ids, ends = turn(checkpoint, path_of(request), said)
            stop = [*stop, *ends]
        reason = blocked(checkpoint, ids, max_new_tokens, slide)
        started = time.perf_counter()
        if "echo_from" in request:
            first = whole(request, "echo_from", 0)
            prompt = score(checkpoint, context, ids, start=first, top=top, cancelled=cancelled)
            self._stream(request_id, "prompt", prompt)
        steps = generate(
            checkpoint,
            context,
            ids,
            sampling,
            max_new_tokens=max_new_tokens,
            stop=stop,
            top=top,
            slide=slide,
            cancelled=cancelled,
        )
        decoding = time.perf_counter()
        count, last = self._stream(request_id, "steps", steps)
        self._send(
            request_id,
            "done",
            finish_reason=(last and last.finish_reason) or reason or "cancelled",
            tokens=count,
            prompt_seconds=decoding - started,
            seconds=time.perf_counter() - decoding,
            **how,
        )

    def _stream(
        self, request_id: Any, event: str, steps: Iterator[Step]
    ) -> tuple[int, Step | None]:
        """Send steps in batches; how many there were, and the last one."""
        batch: list[dict[str, Any]] = []
        count, last, sent = 0, None, 0.0
        for last in steps:
            batch.append(last.to_dict())
            count += 1
            now = time.perf_counter()
            if now - sent >= BATCH_SECONDS or len(batch) >= BATCH_STEPS:
                self._send(request_id, event, steps=batch)
                self._has_answered = True
                batch, sent = [], now
        if batch:
            self._send(request_id, event, steps=batch)
            self._has_answered = True
        return count, last

    def _ready(self, request: Request) -> Ready:
        if self._pair is None:
            raise UserError("no model is loaded; send a load request first")
        return self._pair.get(typed(request, "beside", bool, False))

    def _loaded(self, request: Request) -> tuple[Checkpoint, Context]:
        ready = self._ready(request)
        return ready.checkpoint, ready.context

    def _ids(self, request: Request) -> list[int]:
        """The path that a request names: ids of the first model, then text behind them."""
        from gpt.compare import translate
        from gpt.generate import check_ids, encode

        checkpoint, _ = self._loaded(request)
        ids, behind = path_of(request), text(request, "text", "")
        if not ids:
            return encode(checkpoint, behind)
        if request.get("beside"):
            first, _ = self._loaded({})
            check_ids(first, ids)
            ids = translate(first, checkpoint, ids)
        return ids + checkpoint.tokenizer.encode(behind)

    def _cancel_check(self, request: Request) -> Callable[[], bool]:
        request_id = request.get("id")
        return lambda: request_id in self._cancelled

    def _send(self, request_id: Any, event: str, **fields: Any) -> None:
        line = {"id": request_id, "event": event, **fields}
        self._output.write(json.dumps(line, ensure_ascii=True, separators=(",", ":")) + "\n")
        self._output.flush()


_OPERATIONS: dict[str, Callable[[Engine, Request], None]] = {
    "load": Engine._load,
    "models": Engine._models,
    "tokenize": Engine._tokenize,
    "score": Engine._score,
    "generate": Engine._generate,
    "waterfall": Engine._ask,
    "paths": Engine._ask,
    "inside": Engine._ask,
    "left_out": Engine._ask,
    "options": Engine._ask,
    "compare": Engine._compare,
    "unload": Engine._unload,
}
_KNOWN = {*_OPERATIONS, "cancel"}


def main() -> None:
    """Serve stdin and stdout; whatever else would print goes to stderr."""
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    engine = Engine(output)
    threading.Thread(target=engine.read, args=(sys.stdin.buffer,), daemon=True).start()
    try:
        engine.serve()
    except (BrokenPipeError, KeyboardInterrupt):
        # Nobody listens any more; a second failure at exit would only be noise.
        engine.close()
        os._exit(1)
    engine.close()


if __name__ == "__main__":
    main()
