"""Requests that have one answer: what they ask, and the fields of the answer; no pipes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpt.checkpoint import Checkpoint
from gpt.context import Context, window_start
from gpt.errors import UserError
from gpt.explain import likely_paths
from gpt.explain import waterfall as find_waterfall
from gpt.generate import check_ids, score
from gpt.lens import layers
from gpt.lens import left_out as find_owed
from gpt.progress import Tell, reading
from gpt.request import Request, texts, typed, whole
from gpt.settings import Sampling

Cancelled = Callable[[], bool]
Answer = dict[str, Any]
Question = Callable[[Checkpoint, Context, list[int], Request, Cancelled, Tell], Answer]
"""The model, what it has read, the ids of the path, the request, whether to stop, and whom to tell
how far it is. An answer that was cancelled may be anything."""


def ask(
    model: Checkpoint,
    context: Context,
    ids: list[int],
    request: Request,
    cancelled: Cancelled,
    tell: Tell,
) -> Answer:
    """Answer one of QUESTIONS, by its op, when the end of the path is read that the model sees."""
    check_ids(model, ids)
    if request["op"] != "inside":  # which reads anew, to look inside
        start = window_start(len(ids), model.model.config.block_size)
        context.read(ids[start:], reading(context, start, len(ids), cancelled, tell))
    if cancelled():
        return {}
    return QUESTIONS[request["op"]](model, context, ids, request, cancelled, tell)


def waterfall(
    model: Checkpoint,
    context: Context,
    ids: list[int],
    request: Request,
    cancelled: Cancelled,
    tell: Tell,
) -> Answer:
    """What the settings make of the distribution after the path."""
    sampling = Sampling.from_dict(typed(request, "sampling", dict, {}))
    chosen = whole(request, "chosen", 0) if "chosen" in request else None
    top = whole(request, "top", 10)
    return find_waterfall(model, context, ids, sampling, chosen=chosen, top=top).to_dict()


def paths(
    model: Checkpoint,
    context: Context,
    ids: list[int],
    request: Request,
    cancelled: Cancelled,
    tell: Tell,
) -> Answer:
    """The most probable continuations."""
    width, depth = whole(request, "width", 8), whole(request, "depth", 8)
    if not (1 <= width <= 64 and 1 <= depth <= 64):
        raise UserError("width and depth must be from 1 to 64")
    found = likely_paths(
        model, context, ids, width=width, depth=depth, cancelled=cancelled, tell=tell
    )
    return {"paths": [path.to_dict() for path in found]}


def inside(
    model: Checkpoint,
    context: Context,
    ids: list[int],
    request: Request,
    cancelled: Cancelled,
    tell: Tell,
) -> Answer:
    """What every layer would say, and where it looks."""
    chosen, top = whole(request, "chosen", 0), whole(request, "top", 5)
    found = layers(model, ids, chosen, top=top, cancelled=cancelled, tell=tell)
    return {"layers": [layer.to_dict() for layer in found]}


def left_out(
    model: Checkpoint,
    context: Context,
    ids: list[int],
    request: Request,
    cancelled: Cancelled,
    tell: Tell,
) -> Answer:
    """What a token owes to each of the path."""
    chosen, last = whole(request, "chosen", 0), whole(request, "last", 64)
    owed = find_owed(model, context, ids, chosen, last=last, cancelled=cancelled, tell=tell)
    return {"owed": owed}


def options(
    model: Checkpoint,
    context: Context,
    ids: list[int],
    request: Request,
    cancelled: Cancelled,
    tell: Tell,
) -> Answer:
    """What the model thinks of each of several texts after the path."""
    top = whole(request, "top", 0)
    found, wanted = [], texts(request, "options")
    for number, option in enumerate(wanted, 1):
        tell(f"option {number} of {len(wanted)}")
        path = ids + model.tokenizer.encode(option)
        steps = score(model, context, path, start=len(ids), top=top, cancelled=cancelled)
        found.append([step.to_dict() for step in steps])
    return {"options": found}


QUESTIONS: dict[str, Question] = {
    "waterfall": waterfall,
    "paths": paths,
    "inside": inside,
    "left_out": left_out,
    "options": options,
}
