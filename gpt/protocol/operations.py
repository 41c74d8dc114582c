"""Requests with a single answer: from the request to the fields of the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpt.context import Context
from gpt.errors import UserError
from gpt.generate import score
from gpt.interpret.explain import likely_paths, waterfall
from gpt.interpret.lens import attribution, layers
from gpt.progress import Watcher
from gpt.protocol import request as requests
from gpt.protocol.request import PathRequest

Answer = dict[str, Any]
"""Fields of an answer, as plain values."""
Operation = Callable[[Context, list[int], Any, Watcher], Answer]
"""(context, ids of the path, request, watcher) → the answer; anything if it was cancelled."""


def ask(context: Context, ids: list[int], request: PathRequest, watcher: Watcher) -> Answer:
    """Answer a request of a type in OPERATIONS."""
    context.check_ids(ids)
    if not isinstance(request, requests.Layers):  # it runs the network itself
        context.read_end(ids, watcher)
    if watcher.cancelled():
        return {}
    return OPERATIONS[type(request)](context, ids, request, watcher)


def _waterfall(
    context: Context, ids: list[int], asked: requests.Waterfall, watcher: Watcher
) -> Answer:
    found = waterfall(context, ids, asked.sampling, chosen=asked.chosen, top=asked.top)
    return found.to_dict()


def _paths(context: Context, ids: list[int], asked: requests.Paths, watcher: Watcher) -> Answer:
    if not (1 <= asked.width <= 64 and 1 <= asked.depth <= 64):
        raise UserError("width and depth must be from 1 to 64")
    found = likely_paths(context, ids, width=asked.width, depth=asked.depth, watcher=watcher)
    return {"paths": [path.to_dict() for path in found]}


def _layers(context: Context, ids: list[int], asked: requests.Layers, watcher: Watcher) -> Answer:
    found = layers(context, ids, asked.chosen, top=asked.top, watcher=watcher)
    return {"layers": [layer.to_dict() for layer in found]}


def _attribution(
    context: Context, ids: list[int], asked: requests.Attribution, watcher: Watcher
) -> Answer:
    return {"nats": attribution(context, ids, asked.chosen, last=asked.last, watcher=watcher)}


def _options(context: Context, ids: list[int], asked: requests.Options, watcher: Watcher) -> Answer:
    found = []
    for number, option in enumerate(asked.options, 1):
        watcher.tell(f"option {number} of {len(asked.options)}")
        path = ids + context.tokenizer.encode_more(option)
        silent = Watcher(watcher.cancelled)
        steps = score(context, path, start=len(ids), top=asked.top, watcher=silent)
        found.append([step.to_dict() for step in steps])
    return {"options": found}


OPERATIONS: dict[type[PathRequest], Operation] = {
    requests.Waterfall: _waterfall,
    requests.Paths: _paths,
    requests.Layers: _layers,
    requests.Attribution: _attribution,
    requests.Options: _options,
}
