"""Serves models to another process: JSON lines on stdin and stdout.

`python -m gpt.engine`; docs/engine.md describes the lines. It does not depend on a terminal. torch
is imported with the first model, so that the first line is out at once.
"""

from __future__ import annotations

import os
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
from gpt.progress import Watcher
from gpt.protocol import request as requests
from gpt.protocol.inbox import Inbox, Job
from gpt.protocol.reply import NobodyListensError, Reply
from gpt.protocol.request import PathRequest, Request, parse

if TYPE_CHECKING:
    from gpt.context import Context
    from gpt.loaded import LoadedModel, LoadedModels, Role


class Engine:
    """Answers requests in their order; only cancel overtakes."""

    def __init__(self, output: IO[str]) -> None:
        self._output = output
        self._inbox = Inbox()
        self._reply = Reply(output, Job(None))
        """To the request in hand."""
        self._models: LoadedModels | None = None
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
        request = parse(job.op, job.values)
        operation = _OPERATIONS[type(request)]
        try:
            operation(self, request)
        except Exception as error:
            if self._models is None:
                raise
            from gpt import device

            if not device.is_lost(error) or not self._models.leave_gpu():
                raise
            notice = f"{device.describe(error)}; the model runs on the CPU from now on"
            if self._reply.has_steps:
                raise UserError(notice) from error
            self._reply.send("status", message=notice, is_notice=True)
            operation(self, request)

    def close(self) -> None:
        """End what was started in the background."""
        if self._models:
            self._models.close()

    def _load(self, request: requests.Load) -> None:
        started = time.perf_counter()
        directory = models.find(request.model)
        if "torch" not in sys.modules:
            self._reply.send("status", message="loading PyTorch")
        from gpt.loaded import LoadedModels, RunOptions

        self._models = self._models or LoadedModels()
        self._reply.send("status", message=f"loading {directory.name}")
        options = RunOptions(
            request.device,
            request.dtype,
            request.threads or None,
            spare=1,  # for the program that reads our lines
            compile=request.compile,
        )
        loaded = self._models.load(_role(request), directory, options)
        self._reply.send(
            "loaded",
            name=loaded.checkpoint.name,
            manifest=asdict(loaded.checkpoint.manifest),
            config=loaded.checkpoint.model.config.to_dict(),
            **loaded.how(),
            notice=loaded.notice,
            special_tokens=loaded.checkpoint.tokenizer.added_tokens,
            seconds=time.perf_counter() - started,
        )

    def _unload(self, request: requests.Unload) -> None:
        if self._models:
            self._models.forget("second")
        self._reply.send("unloaded")

    def _list_models(self, request: requests.Models) -> None:
        found = {name: asdict(manifest) for name, manifest in models.available().items()}
        self._reply.send("models", models=found)

    def _tokenize(self, request: requests.Tokenize) -> None:
        tokenizer = self._loaded(_role(request)).context.tokenizer
        ids = tokenizer.encode(request.text)
        parts = [list(tokenizer.token_bytes(i)) for i in ids]
        self._reply.end("tokens", ids=ids, bytes=parts)

    def _score(self, request: requests.Score) -> None:
        from gpt.generate import score

        context = self._loaded(_role(request)).context
        started = time.perf_counter()
        ids = self._path(request, context)
        steps = score(context, ids, top=request.top, watcher=self._watcher())
        count, _ = self._reply.stream("steps", steps)
        self._reply.send(
            "done",
            finish_reason=None if count == len(ids) else "cancelled",
            tokens=count,
            seconds=time.perf_counter() - started,
        )

    def _compare(self, request: requests.Compare) -> None:
        from gpt.generate import score
        from gpt.interpret.compare import divergence, same_vocabulary

        first, second = (self._loaded(role).context for role in ("first", "second"))
        ids, watcher = self._path(request, first), self._watcher()
        theirs = self._path(request, second)
        self._reply.stream("steps", score(second, theirs, top=request.top, watcher=watcher))
        found = None
        if same_vocabulary(first, second):
            found = divergence(first, second, ids, watcher=watcher)
        self._reply.end("compared", divergence=found)

    def _generate(self, request: requests.Generate) -> None:
        from gpt.chat import turn
        from gpt.chat_template import read_template
        from gpt.generate import Limits, blocked, generate, score
        from gpt.interpret.compare import translate_settings

        sampling, stop = request.sampling, request.stop
        first, loaded = self._loaded("first").context, self._loaded(_role(request))
        context, how, watcher = loaded.context, loaded.how(), self._watcher()
        if context is not first:
            sampling = translate_settings(first, context, sampling)
        if request.chat and request.text:
            ids, ends = turn(
                loaded.checkpoint,
                self._ids(request, context),
                request.text,
                system=request.system,
                template=read_template(loaded.directory),
            )
            stop = (*stop, *ends)
        else:
            ids = self._path(request, context)
        limits = Limits(request.max_new_tokens, stop, request.slide)
        reason = blocked(context, ids, limits)
        started = time.perf_counter()
        if request.echo_from is not None:
            prompt = score(context, ids, start=request.echo_from, top=request.top, watcher=watcher)
            self._reply.stream("prompt", prompt)
        steps = generate(context, ids, sampling, limits, top=request.top, watcher=watcher)
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

    def _ask(self, request: PathRequest) -> None:
        from gpt.protocol.operations import ask

        context = self._loaded(_role(request)).context
        found = ask(context, self._path(request, context), request, self._watcher())
        self._reply.end(self._reply.op, **found)

    def _watcher(self) -> Watcher:
        """Whoever sent the request in hand."""
        return Watcher(self._reply.is_cancelled, self._reply.tell)

    def _loaded(self, role: Role) -> LoadedModel:
        """One of the two models, torch's threads set for it."""
        if self._models is None:
            raise UserError("no model is loaded; send a load request first")
        loaded = self._models.get(role)
        loaded.use_threads()
        return loaded

    def _path(self, request: PathRequest, context: Context) -> list[int]:
        """The path of a request as this model reads it."""
        if not request.ids:
            return context.encode(request.text)
        return self._ids(request, context) + context.tokenizer.encode_more(request.text)

    def _ids(self, request: PathRequest, context: Context) -> list[int]:
        """The ids of a request as this model knows them."""
        from gpt.interpret.compare import translate

        ids = list(request.ids)
        if self._models and (first := self._models.get("first").context) is not context:
            first.check_ids(ids)
            ids = translate(first, context, ids)
        return ids


def _role(request: Request) -> Role:
    return "second" if request.second else "first"


_OPERATIONS: dict[type[Request], Callable[[Engine, Any], None]] = {
    requests.Load: Engine._load,
    requests.Unload: Engine._unload,
    requests.Models: Engine._list_models,
    requests.Tokenize: Engine._tokenize,
    requests.Score: Engine._score,
    requests.Compare: Engine._compare,
    requests.Generate: Engine._generate,
    requests.Waterfall: Engine._ask,
    requests.Paths: Engine._ask,
    requests.Layers: Engine._ask,
    requests.Attribution: Engine._ask,
    requests.Options: Engine._ask,
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
        # The reader is gone; a second failure at exit would only be noise.
        engine.close()
        os._exit(1)
    engine.close()


if __name__ == "__main__":
    main()
