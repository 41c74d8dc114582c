"""Requests that models on this machine answer. torch is imported with the first of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from gpt import models
from gpt.capabilities import Capabilities
from gpt.errors import UserError
from gpt.models import Role
from gpt.progress import Watcher
from gpt.protocol import request as requests
from gpt.protocol.reply import Reply, common_reason
from gpt.protocol.request import PathRequest, Request
from gpt.protocol.second import Decode, translated

if TYPE_CHECKING:
    from gpt.chat import Turn
    from gpt.context import Context
    from gpt.loaded import LoadedModel, LoadedModels
    from gpt.step import Step


class LocalModels:
    """The first and the second model, as far as they are on this machine."""

    def __init__(self) -> None:
        self._models: LoadedModels | None = None
        """None until the first load request, which imports torch."""
        self._first_is_here = True
        """Whether ids of a request for the second model are those of a first model here."""

    def answer(self, request: Request, reply: Reply, decode: Decode | None = None) -> None:
        """Answer a request. decode: for a first model that is at a server."""
        self._first_is_here = decode is None
        if decode and request.role == "second" and isinstance(request, PathRequest):
            context = self._loaded("second").context
            encode_more = context.tokenizer.encode_more
            request = translated(request, decode, context.encode, encode_more)
        _OPERATIONS[type(request)](self, request, reply)

    def leave_gpu(self, error: Exception) -> str:
        """What to tell a person if a GPU failed and the models run on the CPU now; else empty."""
        if self._models is None:
            return ""
        from gpt import device

        if not device.is_lost(error) or not self._models.leave_gpu():
            return ""
        return f"{device.describe(error)}; the model runs on the CPU from now on"

    def decode(self, ids: Sequence[int], *, whole: bool = True) -> str:
        """The text of ids of the first model. whole: they are a text from its start."""
        from gpt.tokenizer import decode

        return decode(self._loaded("first").context.tokenizer, ids, whole=whole)

    def close(self) -> None:
        """End what was started in the background."""
        if self._models:
            self._models.close()

    def _load(self, request: requests.Load, reply: Reply) -> None:
        started = time.perf_counter()
        directory = models.find(request.model or models.EMBEDDED)
        if "torch" not in sys.modules:
            reply.send("status", message="loading PyTorch")
        from gpt.loaded import LoadedModels, RunOptions

        self._models = self._models or LoadedModels()
        reply.send("status", message=f"loading {directory.name}")
        options = RunOptions(
            request.device,
            request.dtype,
            request.threads or None,
            spare=1,  # for the program that reads our lines
            compile=request.compile,
        )
        loaded = self._models.load(request.role, directory, options)
        reply.send(
            "loaded",
            name=loaded.checkpoint.name,
            manifest=asdict(loaded.checkpoint.manifest),
            config=loaded.checkpoint.model.config.to_dict(),
            **loaded.how(),
            notice=loaded.notice,
            special_tokens=loaded.checkpoint.tokenizer.added_tokens,
            capabilities=Capabilities().to_dict(),
            seconds=time.perf_counter() - started,
        )

    def _unload(self, request: requests.Unload, reply: Reply) -> None:
        if self._models:
            self._models.forget("second")
        reply.send("unloaded")

    def _list_models(self, request: requests.Models, reply: Reply) -> None:
        found = {name: asdict(manifest) for name, manifest in models.available().items()}
        reply.send("models", models=found)

    def _tokenize(self, request: requests.Tokenize, reply: Reply) -> None:
        tokenizer = self._loaded(request.role).context.tokenizer
        ids = tokenizer.encode(request.text)
        parts = [list(tokenizer.token_bytes(i)) for i in ids]
        reply.end("tokens", ids=ids, bytes=parts)

    def _score(self, request: requests.Score, reply: Reply) -> None:
        from gpt.generate import score
        from gpt.interpret.intervene import intervened

        context = self._loaded(request.role).context
        started = time.perf_counter()
        ids = self._path(request, context)
        watcher = Watcher(reply.is_cancelled, reply.tell)
        with intervened(context, request.interventions, ids, watcher=watcher) as changed:
            steps = score(changed, ids, top=request.top, watcher=watcher)
            count, _ = reply.stream("steps", steps)
        reply.send(
            "done",
            finish_reason=None if count == len(ids) else "cancelled",
            tokens=count,
            seconds=time.perf_counter() - started,
        )

    def _compare(self, request: requests.Compare, reply: Reply) -> None:
        from gpt.generate import score
        from gpt.interpret.compare import divergence, same_vocabulary

        second, watcher = self._loaded("second").context, Watcher(reply.is_cancelled, reply.tell)
        theirs = self._path(request, second)
        reply.stream("steps", score(second, theirs, top=request.top, watcher=watcher))
        found, first = None, self._other_first(second)
        if first and same_vocabulary(first, second):
            found = divergence(first, second, self._path(request, first), watcher=watcher)
        reply.end("compared", divergence=found)

    def _generate(self, request: requests.Generate, reply: Reply) -> None:
        from gpt.chat import Turn, stops_of, turn
        from gpt.chat_template import read_template
        from gpt.fast.branches import Branch, branches
        from gpt.generate import Limits, blocked, score
        from gpt.interpret.compare import translate_settings
        from gpt.interpret.intervene import intervened

        sampling, stop = request.sampling, request.stop
        loaded = self._loaded(request.role)
        context, how, watcher = (
            loaded.context,
            loaded.how(),
            Watcher(reply.is_cancelled, reply.tell),
        )
        if first := self._other_first(context):
            sampling = translate_settings(first, context, sampling)
        template = read_template(loaded.directory) if request.chat else None
        if request.chat and request.text:
            written = turn(
                loaded.checkpoint,
                self._ids(request, context),
                request.text,
                system=request.system,
                template=template,
            )
        else:
            stops = stops_of(loaded.checkpoint, template) if request.chat else []
            written = Turn(self._path(request, context), stops)
        ids, stop = written.ids, (*stop, *written.stops)
        limits = Limits(request.max_new_tokens, stop, request.slide)
        reason = blocked(context, ids, limits)
        grows_by = request.max_new_tokens if request.slide else 0
        started = time.perf_counter()
        with intervened(
            context, request.interventions, ids, grows_by=grows_by, watcher=watcher
        ) as changed:
            if changed is not context:
                how["compiled"] = False
            if (first_echoed := request.echo_from) is not None:
                prompt = score(changed, ids, start=first_echoed, top=request.top, watcher=watcher)
                reply.stream("prompt", (_credited(step, written) for step in prompt))
            wanted = [
                Branch(sampling.branch(i), Watcher(partial(reply.is_cancelled, i), reply.tell))
                for i in range(request.branches)
            ]
            steps = branches(changed, ids, wanted, limits, top=request.top)
            decoding = time.perf_counter()
            count, last = reply.stream_branches(steps)
        reply.send(
            "done",
            finish_reason=common_reason(
                last[i].finish_reason if i in last else reason for i in range(request.branches)
            ),
            tokens=count,
            prompt_seconds=decoding - started,
            seconds=time.perf_counter() - decoding,
            **how,
        )

    def _ask(self, request: Request, reply: Reply) -> None:
        from gpt.protocol.operations import ask

        context = self._loaded(request.role).context
        ids = self._path(request, context) if isinstance(request, PathRequest) else []
        found = ask(context, ids, request, Watcher(reply.is_cancelled, reply.tell))
        reply.end(reply.op, **found)

    def _loaded(self, role: Role) -> LoadedModel:
        """One of the two models, torch's threads set for it."""
        if self._models is None:
            raise UserError("no model is loaded; send a load request first")
        loaded = self._models.get(role)
        loaded.use_threads()
        return loaded

    def _path(self, request: PathRequest, context: Context) -> list[int]:
        """The path of a request as this model reads it."""
        ids = self._ids(request, context) if request.ids else []
        if request.text or not (ids or request.segments):
            ids = context.add(ids, request.text)
        for part in request.segments:
            ids = context.add(ids, part)
        return ids

    def _ids(self, request: PathRequest, context: Context) -> list[int]:
        """The ids of a request as this model knows them."""
        from gpt.interpret.compare import translate

        ids = list(request.ids)
        if first := self._other_first(context):
            first.check_ids(ids)
            ids = translate(first, context, ids)
        return ids

    def _other_first(self, context: Context) -> Context | None:
        """The first model if it is here and another one than this: ids of requests are its own."""
        if not self._first_is_here:
            return None
        first = self._loaded("first").context
        return None if first is context else first


def _credited(step: Step, written: Turn) -> Step:
    """The Step of a token, with who wrote it."""
    return step._replace(by_template=True) if step.position in written.template else step


_OPERATIONS: dict[type[Request], Callable[[LocalModels, Any, Reply], None]] = {
    requests.Load: LocalModels._load,
    requests.Unload: LocalModels._unload,
    requests.Models: LocalModels._list_models,
    requests.Tokenize: LocalModels._tokenize,
    requests.Score: LocalModels._score,
    requests.Compare: LocalModels._compare,
    requests.Generate: LocalModels._generate,
    requests.Waterfall: LocalModels._ask,
    requests.Paths: LocalModels._ask,
    requests.Layers: LocalModels._ask,
    requests.Attribution: LocalModels._ask,
    requests.Options: LocalModels._ask,
    **dict.fromkeys(requests.INSIDE.values(), LocalModels._ask),
}
