"""Requests with a single answer: from the request to the fields of the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpt.context import Context
from gpt.errors import UserError
from gpt.generate import score
from gpt.interpret.explain import likely_paths, waterfall
from gpt.interpret.grid import lens_cell, lens_grid, stream_norms
from gpt.interpret.heads import heads, work
from gpt.interpret.intervene import effect, intervened
from gpt.interpret.lens import attribution, layers
from gpt.interpret.logit_parts import logit_parts
from gpt.interpret.mattered import mattered
from gpt.interpret.patch import patch_grid
from gpt.interpret.steer import steering
from gpt.interpret.words import matrix_named, neighbours, plane, position_neighbours
from gpt.interventions import Intervention, Steer
from gpt.progress import Watcher
from gpt.protocol import inside
from gpt.protocol import request as requests
from gpt.protocol.request import ChangedRequest, Request

Answer = dict[str, Any]
"""Fields of an answer, as plain values."""
Operation = Callable[[Context, list[int], Any, Watcher], Answer]
"""(context, ids of the path, request, watcher) → the answer; anything if it was cancelled."""


def ask(context: Context, ids: list[int], request: Request, watcher: Watcher) -> Answer:
    """Answer a request of a type in OPERATIONS, about a path if it has one."""
    context.check_ids(ids)
    interventions: tuple[Intervention, ...] = ()
    if isinstance(request, ChangedRequest) and not isinstance(request, _CHANGES_ITSELF):
        interventions = request.interventions
    with intervened(context, interventions, ids, watcher=watcher) as changed:
        if not isinstance(request, _READS_ITSELF):
            changed.read_end(ids, watcher)
        if watcher.cancelled():
            return {}
        return OPERATIONS[type(request)](changed, ids, request, watcher)


def _waterfall(
    context: Context, ids: list[int], asked: requests.Waterfall, watcher: Watcher
) -> Answer:
    found = waterfall(
        context,
        ids,
        asked.sampling,
        chosen=asked.chosen,
        top=asked.top,
        also=asked.also,
        interventions=asked.interventions,
    )
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


def _lens(context: Context, ids: list[int], asked: inside.Lens, watcher: Watcher) -> Answer:
    has_middle = asked.middle
    found = lens_grid(context, ids, last=asked.last, has_middle=has_middle, watcher=watcher)
    return found.to_dict()


def _cell(context: Context, ids: list[int], asked: inside.Cell, watcher: Watcher) -> Answer:
    return lens_cell(context, ids, asked.layer, is_middle=asked.middle, top=asked.top).to_dict()


def _heads(context: Context, ids: list[int], asked: inside.Heads, watcher: Watcher) -> Answer:
    return heads(context, ids, has_scores=asked.scores, watcher=watcher).to_dict()


def _work(context: Context, ids: list[int], asked: inside.Work, watcher: Watcher) -> Answer:
    return work(context, ids, asked.layer, asked.head, components=asked.components).to_dict()


def _norms(context: Context, ids: list[int], asked: inside.Norms, watcher: Watcher) -> Answer:
    return stream_norms(context, ids, watcher=watcher).to_dict()


def _parts(context: Context, ids: list[int], asked: inside.Parts, watcher: Watcher) -> Answer:
    return logit_parts(context, ids, asked.chosen, asked.versus).to_dict()


def _mattered(context: Context, ids: list[int], asked: inside.Mattered, watcher: Watcher) -> Answer:
    found = mattered(
        context, ids, asked.chosen, last=asked.last, measures=asked.measures, watcher=watcher
    )
    return found.to_dict()


def _effect(context: Context, ids: list[int], asked: inside.Effect, watcher: Watcher) -> Answer:
    return effect(context, ids, asked.interventions, watcher=watcher).to_dict()


def _steering(context: Context, ids: list[int], asked: inside.Steering, watcher: Watcher) -> Answer:
    found = [
        steering(context, ids, each, watcher=watcher).to_dict()
        for each in asked.interventions
        if isinstance(each, Steer)
    ]
    return {"directions": found}


def _patch(context: Context, ids: list[int], asked: inside.Patch, watcher: Watcher) -> Answer:
    other = list(asked.other)
    if asked.other_text or not other:
        other = context.add(other, asked.other_text)
    positions = asked.positions or None
    found = patch_grid(
        context, ids, other, asked.chosen, asked.versus, positions=positions, watcher=watcher
    )
    return found.to_dict()


def _neighbours(
    context: Context, ids: list[int], asked: inside.Neighbours, watcher: Watcher
) -> Answer:
    if asked.matrix == "positions":
        if len(asked.plus) != 1 or asked.minus:
            raise UserError("neighbours of a position need exactly one in plus")
        return position_neighbours(context, asked.plus[0], top=asked.top).to_dict()
    matrix = matrix_named(asked.matrix)
    found = neighbours(
        context, asked.plus, asked.minus, matrix=matrix, top=asked.top, watcher=watcher
    )
    return found.to_dict()


def _plane(context: Context, ids: list[int], asked: inside.Plane, watcher: Watcher) -> Answer:
    return plane(context, asked.tokens, matrix=matrix_named(asked.matrix)).to_dict()


OPERATIONS: dict[type[Request], Operation] = {
    requests.Waterfall: _waterfall,
    requests.Paths: _paths,
    requests.Layers: _layers,
    requests.Attribution: _attribution,
    requests.Options: _options,
    inside.Lens: _lens,
    inside.Cell: _cell,
    inside.Heads: _heads,
    inside.Work: _work,
    inside.Norms: _norms,
    inside.Parts: _parts,
    inside.Mattered: _mattered,
    inside.Effect: _effect,
    inside.Steering: _steering,
    inside.Patch: _patch,
    inside.Neighbours: _neighbours,
    inside.Plane: _plane,
}
_CHANGES_ITSELF = (requests.Waterfall,)
"""Requests whose answer is about the network both as it is and changed."""
_READS_ITSELF = (
    requests.Layers,
    inside.Lens,
    inside.Heads,
    inside.Norms,
    inside.Steering,
    inside.Effect,
    inside.Neighbours,
    inside.Plane,
)
"""Requests whose answer does not need the whole path to be read before."""
