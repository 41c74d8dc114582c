"""Apply interventions to a network, and measure what they change."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gpt.context import Context
from gpt.errors import UserError
from gpt.generate import ROWS
from gpt.interpret.effects import Effect
from gpt.interpret.hooks import Handler, Mask, Site, hooked
from gpt.interpret.steer import direction
from gpt.interventions import Edge, Intervention, Knockout, Steer, check
from gpt.model import GPT, causal_mask
from gpt.prediction import check_finite
from gpt.progress import NOBODY, Watcher

_Means = dict[tuple[str, int], Tensor]
"""(part, layer) → the mean over the context of what it adds; of all heads for "head"."""
_SITE: dict[str, Site] = {"head": "heads", "attention": "attention", "mlp": "mlp"}


class _Changes(NamedTuple):
    """Interventions as what `hooked` takes."""

    sites: dict[Site, Handler]
    mask: Mask | None


@dataclass
class _Changed:
    """A context whose network is changed, while its changes are hooked."""

    interventions: tuple[Intervention, ...]
    of_text: tuple[int, ...] | None
    """The text of whose parts means were taken; None if none was."""
    context: Context
    changes: _Changes


_LATEST: WeakKeyDictionary[Context, _Changed] = WeakKeyDictionary()
"""The latest changed context of each, so that it need not read its text again."""
_EDGES: WeakKeyDictionary[Context, tuple[Edge, ...]] = WeakKeyDictionary()
"""The edges that are cut in a changed context."""


@contextmanager
def intervened(
    context: Context,
    interventions: Sequence[Intervention],
    ids: Sequence[int] = (),
    *,
    grows_by: int = 0,
    watcher: Watcher = NOBODY,
) -> Iterator[Context]:
    """A context of the same model, in whose network the interventions act inside the `with`.

    It has no compiled code: the network as in gpt/model.py runs, and nobody else may run it
    meanwhile. Without interventions it is the same context.

    ids: the text; a mean is one over its tokens, or the last ones that fit into the context.
    grows_by: most tokens that will be added to it. Raises UserError for what the model does not
    have.
    """
    if not interventions:
        yield context
        return
    check(interventions, context.config, len(ids) + grows_by)
    changed = _changed(context, interventions, ids, watcher)
    with hooked(context.model, changed.changes.sites, mask=changed.changes.mask):
        yield changed.context


def _changed(
    context: Context, interventions: Sequence[Intervention], ids: Sequence[int], watcher: Watcher
) -> _Changed:
    """The changed context, prepared or known from before."""
    context.check_ids(ids)
    check(interventions, context.config, len(ids))
    wanted = tuple(interventions)
    has_means = any(isinstance(each, Knockout) and each.by == "mean" for each in wanted)
    of_text = tuple(ids[context.window_start(len(ids)) :]) if has_means else None
    latest = _LATEST.get(context)
    if latest is None or (latest.interventions, latest.of_text) != (wanted, of_text):
        fresh = Context(context.model, context.tokenizer, context.ends)
        changes = _prepare(context, wanted, of_text or (), watcher)
        latest = _Changed(wanted, of_text, fresh, changes)
        _EDGES[fresh] = tuple(each for each in wanted if isinstance(each, Edge))
        if not watcher.cancelled():
            _LATEST[context] = latest
    return latest


def without_token(context: Context, position: int) -> AbstractContextManager[None]:
    """A `with` for reading what follows a token that is left out, in a context of `intervened`.

    The tokens after it have moved up by one position, and cut edges move with them.
    """
    cut = _EDGES.get(context, ())
    if not cut:
        return nullcontext()
    kept = [each for each in cut if position not in (each.source, each.target)]
    moved = [
        replace(
            each,
            source=each.source - (each.source > position),
            target=None if each.target is None else each.target - (each.target > position),
        )
        for each in kept
    ]
    mask = _without(moved, context.config.n_head)
    return hooked(context.model, {}, mask=lambda layer, q, k, _: mask(layer, q, k, None))


@torch.inference_mode()
def _prepare(
    context: Context,
    interventions: Sequence[Intervention],
    window: Sequence[int],
    watcher: Watcher,
) -> _Changes:
    """Compute directions and means in the unchanged network, and what replaces what."""
    config = context.config
    knockouts = [each for each in interventions if isinstance(each, Knockout)]
    edges = [each for each in interventions if isinstance(each, Edge)]
    added: dict[int, Tensor] = {}
    for each in interventions:
        if isinstance(each, Steer):
            vector = each.strength * direction(context, each, watcher)
            added[each.layer] = added.get(each.layer, torch.zeros_like(vector)) + vector
    means = _means(context.model, knockouts, window)
    sites: dict[Site, Handler] = {}
    for part, site in _SITE.items():
        if of_part := [each for each in knockouts if each.part == part]:
            sites[site] = _replaced(of_part, means, config.head_size)
    skipped = {each.layer: _value(each, means) for each in knockouts if each.part == "layer"}
    if skipped or added:
        sites |= _of_stream(skipped, added)
    return _Changes(sites, _without(edges, config.n_head) if edges else None)


def _value(each: Knockout, means: _Means) -> Tensor | float:
    return 0.0 if each.by == "zero" else means[each.part, each.layer]


def _replaced(knockouts: Sequence[Knockout], means: _Means, head_size: int) -> Handler:
    """A handler that replaces whole outputs, or the columns of heads."""
    by_layer: dict[int, list[tuple[slice, Tensor | float]]] = defaultdict(list)
    for each in knockouts:
        columns, value = slice(None), _value(each, means)
        if each.head is not None:
            columns = slice((each.head - 1) * head_size, each.head * head_size)
            value = value[columns] if isinstance(value, Tensor) else value
        by_layer[each.layer].append((columns, value))

    def replace(layer: int, x: Tensor) -> Tensor | None:
        if layer not in by_layer:
            return None
        x = x.clone()
        for columns, value in by_layer[layer]:
            x[..., columns] = value
        return x

    return replace


def _of_stream(skipped: dict[int, Tensor | float], added: dict[int, Tensor]) -> dict[Site, Handler]:
    """Handlers that skip blocks and add directions to the stream."""
    entered: dict[int, Tensor] = {}

    def enter(layer: int, x: Tensor) -> None:
        if layer in skipped:
            entered[layer] = x

    def leave(layer: int, x: Tensor) -> Tensor:
        if layer in skipped:
            x = entered.pop(layer) + skipped[layer]
        return x + added[layer].to(x.dtype) if layer in added else x

    return {"enter": enter, "embedding": leave, "layer": leave}


def _without(edges: Sequence[Edge], n_head: int) -> Mask:
    """A mask in which some tokens do not see some earlier ones."""

    def mask(layer: int, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor | None:
        here = [each for each in edges if each.layer in (None, layer)]
        if not here:
            return mask
        n = n_head if any(each.head for each in here) else 1
        visible = causal_mask(q, k) if mask is None else mask  # (T, S)
        # A token sees its text from the first token on, but not those of other continuations.
        place = visible.cumsum(-1) - 1  # (T, S) position of each key that it sees
        own = place[:, -1:]  # (T, 1) its own position
        sees = visible.repeat(n, 1, 1)
        for each in here:
            is_target = own > each.source if each.target is None else own == each.target
            heads = slice(None) if each.head is None or n == 1 else slice(each.head - 1, each.head)
            sees[heads] &= ~(is_target & (place == each.source))
        if n > 1 and q.size(2) == 1:  # queries that share keys are rows of one product
            return sees.view(1, k.size(1), -1, k.size(2))
        return sees[None]  # (1, n, T, S)

    return mask


def _means(model: GPT, knockouts: Sequence[Knockout], window: Sequence[int]) -> _Means:
    """The mean over the tokens of a window of what each part with `by` "mean" adds."""
    wanted = {(each.part, each.layer) for each in knockouts if each.by == "mean"}
    if not wanted:
        return {}
    if not window:
        raise UserError("a mean over the text needs a text with at least one token")
    means: _Means = {}
    entered: dict[int, Tensor] = {}

    def record(part: str) -> Handler:
        def see(layer: int, x: Tensor) -> None:
            if part == "enter":
                entered[layer] = x
            elif (part, layer) in wanted:
                x = x - entered[layer] if part == "layer" else x
                means[part, layer] = x[0].mean(0)

        return see

    sites = {**_SITE, "enter": "enter", "layer": "layer"}
    with hooked(model, {site: record(part) for part, site in sites.items()}):
        all_ids = torch.tensor([list(window)], device=model.wte.weight.device)  # (1, T)
        model.hidden(all_ids, model.new_cache())
    return means


@torch.inference_mode()
def effect(
    context: Context,
    ids: Sequence[int],
    interventions: Sequence[Intervention],
    *,
    watcher: Watcher = NOBODY,
) -> Effect:
    """What interventions do to the distribution of each token of a text.

    KL(original ‖ changed) = Σ p (log p − log q) in nats, with p of the unchanged network
    (Kullback and Leibler 1951), and the log-probabilities of the token under both. The first token
    has no context: None. None also for what a cancellation left out.
    """
    found: list[tuple[float | None, ...]] = [(None, None, None)] * len(ids)
    changed = _changed(context, interventions, ids, watcher) if interventions else None
    position = 1
    while position < len(ids):
        left = context.window_start(position)
        right = min(left + context.config.block_size, len(ids) - 1)
        before = context.read(ids[left:right], context.reading(left, len(ids), watcher))
        after = before
        if changed:
            other, changes = changed.context, changed.changes
            with hooked(context.model, changes.sites, mask=changes.mask):
                watching = other.reading(left, len(ids), watcher)
                after = other.read(ids[left:right], watching)
        if min(len(before), len(after)) < right - left:
            break
        while position <= right:
            stop = min(position + ROWS, right + 1)
            rows = slice(position - 1 - left, stop - 1 - left)
            logits, other_logits = (
                context.raw_logits(torch.stack(each[rows])) for each in (before, after)
            )
            chosen = ids[position:stop]
            found[position:stop] = _distances(logits, other_logits, chosen, position)
            position = stop
    return Effect(*map(tuple, zip(*found, strict=True))) if found else Effect((), (), ())


def _distances(
    before: Tensor, after: Tensor, chosen: Sequence[int], position: int
) -> list[tuple[float | None, ...]]:
    """Logits (n, V) of both networks → KL, and the log-probability of each token under both."""
    for logits in (before, after):
        check_finite(float(logits.sum()), position)
    p, q = before.log_softmax(-1), after.log_softmax(-1)  # (n, V) log-probabilities
    divergence = (p.exp() * (p - q)).sum(-1).clamp_min(0)  # (n)
    ids = torch.tensor(list(chosen), device=p.device)[:, None]
    columns = divergence, p.gather(-1, ids)[:, 0], q.gather(-1, ids)[:, 0]
    return list(zip(*(column.tolist() for column in columns), strict=True))
