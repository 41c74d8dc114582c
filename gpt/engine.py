"""Serves one model at a time to another process: JSON lines on stdin and stdout.

`python -m gpt.engine`; docs/engine.md describes the lines. It knows no terminal. torch is
imported with the first model, so that the first line is out at once.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import IO, TYPE_CHECKING

import gpt
from gpt import models
from gpt.errors import UserError
from gpt.inbox import Inbox, Job
from gpt.progress import Tell
from gpt.reply import NobodyListensError, Reply
from gpt.request import Request, path_of, text, texts, typed, whole
from gpt.settings import Sampling

if TYPE_CHECKING:
    from gpt.checkpoint import Checkpoint
    from gpt.context import Context
    from gpt.ready import Pair, Ready


class Engine:
    """Answers requests in their order; only cancel overtakes."""

    def __init__(self, output: IO[str]) -> None:
        self._output = output
        self._inbox = Inbox(frozenset(_OPERATIONS))
        self._reply = Reply(output, Job(None, {}))
        """To the request in hand."""
        self._pair: Pair | None = None
        """None until the first load request, which imports torch."""

    def read(self, lines: Iterator[bytes]) -> None:
        """Take requests until the input ends. Runs in a thread of its own."""
        self._inbox.read(lines)

    def serve(self) -> None:
        """Answer until the input has ended and everything is answered."""
        self._reply.send("hello", version=gpt.__version__, format_version=models.FORMAT_VERSION)
        while (job := self._inbox.take()) is not None:
            self._reply = Reply(self._output, job)
            try:
                self._answer(job)
            except (NobodyListensError, KeyboardInterrupt):
                raise
            except UserError as error:
                self._reply.send("error", message=str(error))
            except MemoryError:
                self._reply.send("error", message="there is not enough memory for this")
            except BaseException as error:  # a mistake of ours must not take the session with it
                traceback.print_exc()
                name = type(error).__name__
                self._reply.send("error", message=f"the engine failed: {name}: {error}")
            finally:
                self._inbox.close(job)

    def _answer(self, job: Job) -> None:
        """Run an operation. If the GPU fails before its first answer, once more on the CPU."""
        if job.error:
            raise UserError(job.error)
        if job.is_cancelled():
            self._reply.send_cancelled()
            return
        request, operation = job.request, _OPERATIONS[job.request["op"]]
        try:
            operation(self, request)
        except Exception as error:
            if self._pair is None:
                raise
            from gpt import device

            if not device.is_lost(error) or not self._pair.leave_gpu():
                raise
            notice = f"{device.describe(error)}; the model runs on the CPU from now on"
            if self._reply.has_steps:
                raise UserError(notice) from error
            self._reply.send("status", message=notice, is_notice=True)
            operation(self, request)

    def _load(self, request: Request) -> None:
        beside = typed(request, "beside", bool, False)
        started = time.perf_counter()
        directory = models.find(text(request, "model", models.EMBEDDED))
        if "torch" not in sys.modules:
            self._reply.send("status", message="loading PyTorch")
        from gpt.ready import Pair

        self._pair = self._pair or Pair()
        self._reply.send("status", message=f"loading {directory.name}")
        ready = self._pair.load(
            beside,
            directory,
            where=text(request, "device", "auto"),
            dtype=text(request, "dtype", "auto"),
            threads=whole(request, "threads", 0) or None,
            spare=1,  # for whoever reads our lines
            compile=text(request, "compile", "off"),
        )
        self._reply.send(
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
        self._reply.send("models", models=found)

    def _tokenize(self, request: Request) -> None:
        checkpoint, _ = self._loaded(request)
        ids = checkpoint.tokenizer.encode(text(request, "text"))
        parts = [list(checkpoint.tokenizer.token_bytes(i)) for i in ids]
        self._reply.end("tokens", ids=ids, bytes=parts)

    def _score(self, request: Request) -> None:
        from gpt.generate import score

        checkpoint, context = self._loaded(request)
        started = time.perf_counter()
        ids, top = self._ids(request), whole(request, "top", 10)
        cancelled, tell = self._watch()
        steps = score(checkpoint, context, ids, top=top, cancelled=cancelled, tell=tell)
        count, _ = self._reply.stream("steps", steps)
        self._reply.send(
            "done",
            finish_reason=None if count == len(ids) else "cancelled",
            tokens=count,
            seconds=time.perf_counter() - started,
        )

    def _ask(self, request: Request) -> None:
        from gpt.questions import ask

        found = ask(*self._loaded(request), self._ids(request), request, *self._watch())
        self._reply.end(request["op"], **found)

    def close(self) -> None:
        """End what was started in the background."""
        if self._pair:
            self._pair.close()

    def _unload(self, request: Request) -> None:
        if self._pair:
            self._pair.forget(True)
        self._reply.send("unloaded")

    def _compare(self, request: Request) -> None:
        from gpt.compare import divergence, same_vocabulary
        from gpt.generate import score

        own, in_own = self._loaded(request)
        other, in_other = self._loaded({"beside": True})
        ids, theirs = self._ids(request), self._ids({**request, "beside": True})
        top, (cancelled, tell) = whole(request, "top", 10), self._watch()
        steps = score(other, in_other, theirs, top=top, cancelled=cancelled, tell=tell)
        self._reply.stream("steps", steps)
        found = None
        if same_vocabulary(own, other):
            found = divergence(own, in_own, other, in_other, ids, cancelled=cancelled, tell=tell)
        self._reply.end("compared", divergence=found)

    def _generate(self, request: Request) -> None:
        from gpt.chat import turn
        from gpt.compare import translate_settings
        from gpt.generate import blocked, generate, score

        checkpoint, context = self._loaded(request)
        how = self._ready(request).how()
        cancelled, tell = self._watch()
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
            prompt = score(
                checkpoint, context, ids, start=first, top=top, cancelled=cancelled, tell=tell
            )
            self._reply.stream("prompt", prompt)
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
            tell=tell,
        )
        decoding = time.perf_counter()
        count, last = self._reply.stream("steps", steps)
        self._reply.send(
            "done",
            finish_reason=(last and last.finish_reason) or reason or "cancelled",
            tokens=count,
            prompt_seconds=decoding - started,
            seconds=time.perf_counter() - decoding,
            **how,
        )

    def _watch(self) -> tuple[Callable[[], bool], Tell]:
        """Whether to stop, and whom to tell how far it is."""
        return self._reply.is_cancelled, self._reply.tell

    def _ready(self, request: Request) -> Ready:
        if self._pair is None:
            raise UserError("no model is loaded; send a load request first")
        return self._pair.get(typed(request, "beside", bool, False))

    def _loaded(self, request: Request) -> tuple[Checkpoint, Context]:
        ready = self._ready(request)
        return ready.checkpoint, ready.context

    def _ids(self, request: Request) -> list[int]:
        """The path that a request names: ids of the first model, then text after them."""
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


def main() -> None:
    """Serve stdin and stdout; whatever else would print goes to stderr."""
    if sys.stdout is None:
        sys.exit("error: the engine answers on stdout, which is closed")
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2 if sys.stderr else os.open(os.devnull, os.O_WRONLY), 1)
    engine = Engine(output)
    lines = sys.stdin.buffer if sys.stdin else iter(())
    threading.Thread(target=engine.read, args=(lines,), daemon=True).start()
    try:
        engine.serve()
    except (NobodyListensError, KeyboardInterrupt):
        # Nobody listens any more; a second failure at exit would only be noise.
        engine.close()
        os._exit(1)
    engine.close()


if __name__ == "__main__":
    main()
