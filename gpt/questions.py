"""Requests that have one answer: what they ask, and the fields of the answer; no pipes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpt.checkpoint import Checkpoint
from gpt.context import Context
from gpt.errors import UserError
from gpt.explain import likely_paths
from gpt.explain import waterfall as find_waterfall
from gpt.generate import score
from gpt.lens import layers
from gpt.lens import left_out as find_owed
from gpt.request import Request, texts, typed, whole
from gpt.settings import Sampling

Cancelled = Callable[[], bool]
Answer = dict[str, Any]
Question = Callable[[Checkpoint, Context, list[int], Request, Cancelled], Answer]
"""The model, what it has read, the ids of the path, the request, and whether to stop."""


def waterfall(
    model: Checkpoint, context: Context, ids: list[int], request: Request, cancelled: Cancelled
) -> Answer:
    """What the settings make of the distribution behind the path."""
    sampling = Sampling.from_dict(typed(request, "sampling", dict, {}))
    chosen = whole(request, "chosen", 0) if "chosen" in request else None
    top = whole(request, "top", 10)
    return find_waterfall(model, context, ids, sampling, chosen=chosen, top=top).to_dict()


def paths(
    model: Checkpoint, context: Context, ids: list[int], request: Request, cancelled: Cancelled
) -> Answer:
    """The most probable continuations."""
    width, depth = whole(request, "width", 8), whole(request, "depth", 8)
    if not (1 <= width <= 64 and 1 <= depth <= 64):
        raise UserError("width and depth must be from 1 to 64")
    found = likely_paths(model, context, ids, width=width, depth=depth, cancelled=cancelled)
    return {"paths": [path.to_dict() for path in found]}


def inside(
    model: Checkpoint, context: Context, ids: list[int], request: Request, cancelled: Cancelled
) -> Answer:
    """What every layer would say, and where it looks."""
    chosen, top = whole(request, "chosen", 0), whole(request, "top", 5)
    return {"layers": [layer.to_dict() for layer in layers(model, ids, chosen, top=top)]}


def left_out(
    model: Checkpoint, context: Context, ids: list[int], request: Request, cancelled: Cancelled
) -> Answer:
    """What a token owes to each of the path."""
    chosen, last = whole(request, "chosen", 0), whole(request, "last", 64)
    return {"owed": find_owed(model, context, ids, chosen, last=last, cancelled=cancelled)}


def options(
    model: Checkpoint, context: Context, ids: list[int], request: Request, cancelled: Cancelled
) -> Answer:
    """What the model thinks of each of several texts behind the path."""
    top = whole(request, "top", 0)
    found = []
    for option in texts(request, "options"):
        path = ids + model.tokenizer.encode(option)
        steps = score(model, context, path, start=len(ids), top=top)
        found.append([step.to_dict() for step in steps])
    return {"options": found}


QUESTIONS: dict[str, Question] = {
    "waterfall": waterfall,
    "paths": paths,
    "inside": inside,
    "left_out": left_out,
    "options": options,
}
