"""Several continuations of one text, drawn at the same time: the weights are read once for all.

To draw one token reads every weight from memory and uses it once. Several branches use it several
times, so that they cost little more than one, until the processor's arithmetic is the limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from gpt.context import PREFILL, Context, Continuations, FastStep
from gpt.generate import GrowingText, blocked, draw_next, generate
from gpt.limits import Limits
from gpt.prediction import Prediction, read_out
from gpt.progress import NOBODY, Watcher
from gpt.settings import Sampling
from gpt.step import Step
from gpt.weights.timing import least_seconds

TOGETHER = 16
"""Branches that are drawn at the same time."""
CACHES = 1 << 30
"""Bytes that the KV caches of branches may have if each has its own."""


class Branch(NamedTuple):
    """One of several texts with the same beginning."""

    sampling: Sampling
    watcher: Watcher = NOBODY
    """Who waits for it; it may be cancelled alone."""


def branches(
    context: Context,
    ids: Sequence[int],
    wanted: Sequence[Branch],
    limits: Limits = Limits(),
    *,
    top: int = 10,
) -> Iterator[tuple[int, Step]]:
    """Several texts after ids: the number of a branch, from 0, and its next Step.

    Each is what `generate` draws with its settings, except for rounding: the sums of a product
    with several rows may have another order. At most TOGETHER are drawn at the same time: as one
    batch, or, if that is faster, a token of each in turn, as with compiled code, which draws only
    single texts. CUDA graphs draw one after another.
    """
    context.check_ids(ids)
    if blocked(context, ids, limits):
        return
    for first in range(0, len(wanted), TOGETHER):
        group = wanted[first : first + TOGETHER]
        draw = _together if _is_faster_together(context, len(group)) else _in_turn
        for number, step in draw(context, ids, group, limits, top):
            yield first + number, step


_FASTER: WeakKeyDictionary[FastStep, dict[int, bool]] = WeakKeyDictionary()
"""What `_is_faster_together` has measured for each number of branches."""


@torch.inference_mode()
def _is_faster_together(context: Context, n: int) -> bool:
    """Whether a batch of n branches takes less time than each alone."""
    step = context.step
    if n == 1 or context.graphs:
        return False
    if step is None:
        return True
    known = _FASTER.setdefault(step, {})
    if n not in known:
        scratch = Context(context.model, context.tokenizer)
        scratch.read([0])
        cache, scratch.step = scratch.fork(1), step

        def alone() -> None:
            cache.truncate(1)
            step.hidden(0, cache)

        def together() -> None:
            states = Continuations(scratch, 1).read([0] * n, [[0]] * n)
            scratch.predict(*(each[-1] for each in states))

        threads = torch.get_num_threads()
        seconds = [least_seconds(call, threads) for call in (together, alone)]
        known[n] = seconds[0] < n * seconds[1]
    return known[n]


def _in_turn(
    context: Context, ids: Sequence[int], wanted: Sequence[Branch], limits: Limits, top: int
) -> Iterator[tuple[int, Step]]:
    """As `branches`, each alone in a context of its own; the first one in the given context, which
    has then read what the next question is about."""
    context.read_end(ids, _watcher_of_all(wanted))
    longest = len(ids) + limits.max_new_tokens
    memory = max(1, context.cache.bytes_for(longest))  # 0 in a network without blocks
    size = 1 if context.graphs else max(1, CACHES // memory)
    for first in range(0, len(wanted), size):
        texts = {}
        for i, (sampling, watcher) in enumerate(wanted[first : first + size], first):
            own = context if i == 0 or size == 1 else context.copy()
            texts[i] = generate(own, ids, sampling, limits, top=top, watcher=watcher)
        while texts:
            for i, steps in list(texts.items()):
                if step := next(steps, None):
                    yield i, step
                else:
                    del texts[i]


def _watcher_of_all(wanted: Sequence[Branch]) -> Watcher:
    """Cancelled once all branches are."""
    return Watcher(
        lambda: all(branch.watcher.cancelled() for branch in wanted), wanted[0].watcher.tell
    )


@torch.inference_mode()
def _together(
    context: Context, ids: Sequence[int], wanted: Sequence[Branch], limits: Limits, top: int
) -> Iterator[tuple[int, Step]]:
    """As `branches`."""
    watcher = _watcher_of_all(wanted)
    hidden = context.read_end(ids, watcher)
    if len(hidden) < len(ids) - context.window_start(len(ids)):
        return
    alive = list(range(len(wanted)))
    texts = [GrowingText(context, ids, limits) for _ in wanted]
    settings = [branch.sampling for branch in wanted]
    reader = _Reader(context, len(ids))
    states = [hidden[-1]] * len(wanted)
    while states:
        prediction = context.predict(*states)  # of n rows
        drawn = []
        for row, i in enumerate(alive):
            own = Prediction(*(each[row : row + 1] for each in prediction))
            found, settings[i] = draw_next(context, own, settings[i], texts[i].path)
            drawn.append(found)
        reads = read_out(prediction, [each.token_id for each in drawn], top)
        rows = []
        for row, i in enumerate(alive):
            step = texts[i].step(reads[row], drawn[row], wanted[i].watcher.cancelled)
            yield i, step
            if not step.finish_reason:
                rows.append(row)
        alive = [alive[row] for row in rows]
        states = reader.read(rows, [texts[i].path for i in alive], watcher)


class _Reader:
    """Reads the newest tokens of texts that have the same length and the same beginning."""

    def __init__(self, context: Context, n_shared: int) -> None:
        """n_shared: number of tokens that all texts begin with."""
        self._context, self._n_shared = context, n_shared
        self._start = -1
        """Index of the first token of the context that is read."""

    def read(
        self, rows: Sequence[int], paths: Sequence[list[int]], watcher: Watcher
    ) -> list[Tensor]:
        """Hidden states (E) of the last tokens; none without paths, or if it was cancelled.

        rows: which of the paths of the call before these paths continue by one token.
        """
        states: list[Tensor] = []
        if not paths:
            return states
        start = self._context.window_start(len(paths[0]))
        unread = [path[-1:] for path in paths]
        if start != self._start:  # at first, and if the window has moved
            shared = paths[0][start : self._n_shared]
            self._context.read(shared)
            self._tree = Continuations(self._context, len(shared))
            self._start, rows = start, [0] * len(paths)
            unread = [path[max(start, self._n_shared) :] for path in paths]
        size = max(1, PREFILL // len(paths))
        for first in range(0, len(unread[0]), size):
            if watcher.cancelled():
                return []
            parts = [each[first : first + size] for each in unread]
            states = [each[-1] for each in self._tree.read(rows, parts)]
            rows = range(len(paths))
        return states
