"""The logit lens over a whole text: what each layer would predict for each token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gpt.cache import KVCache
from gpt.context import Context
from gpt.errors import UserError
from gpt.interpret.hooks import Handler, Site, hooked
from gpt.interpret.looks import LensCell, LensGrid, StreamNorms, Token
from gpt.model import GPT, Block
from gpt.prediction import check_finite
from gpt.progress import NOBODY, Watcher

CHUNK = 128
"""Positions that the network reads at once: their streams after all layers are held."""
_TOKENS = 2048
"""Tokens of the vocabulary whose numbers are combined at once, to stay in a core's cache."""
_LEAST = -80.0
"""Log-probabilities below count as this one: their sum is nothing, and a processor is slow with
numbers that small."""
_Row = tuple[int, bool]
"""A row of the grid: its layer, and whether it is between attention and MLP."""


@torch.inference_mode()
def lens_grid(
    context: Context,
    ids: Sequence[int],
    *,
    last: int = 100,
    has_middle: bool = False,
    watcher: Watcher = NOBODY,
) -> LensGrid:
    """What the embedding and each layer predict for the last tokens of a text and for the next one.

    The residual stream (C) after a layer goes through the network's last norm and output matrix
    (logit lens, nostalgebraist 2020); KL(last row ‖ cell) as in Belrose et al. 2023
    (arXiv:2303.08112). All are exact over the vocabulary, in nats. Columns are the last `last`
    tokens of the text that have a context, then the one after it; the context is the model's
    window over the end of the text. Fewer columns if it was cancelled.

    has_middle: also the stream between attention and MLP of each layer.
    """
    start, window = _window(context, ids)
    rows = _rows(context.model, has_middle)
    first = max(0, len(window) - last)
    columns = _Columns(rows)
    for done, streams in _streams(context, ids, first, watcher):
        watcher.tell(f"token {start + done} of {len(ids)}")
        chosen = window[done + 1 : done + 1 + CHUNK]
        columns.add(context, streams, chosen, start + done + 1, watcher)
    positions = range(start + first + 1, start + first + 1 + columns.n)
    mentioned = sorted({i for row in columns.ids.values() for i in row})
    bytes_of = context.tokenizer.token_bytes
    return LensGrid(
        layers=tuple(layer for layer, _ in rows),
        is_middle=tuple(is_middle for _, is_middle in rows),
        positions=tuple(positions),
        ids=tuple(tuple(columns.ids[row]) for row in rows),
        logprobs=tuple(tuple(columns.logprobs[row]) for row in rows),
        chosen_logprobs=tuple(tuple(columns.chosen[row]) for row in rows),
        entropies=tuple(tuple(columns.entropies[row]) for row in rows),
        divergences=tuple(tuple(columns.divergences[row]) for row in rows),
        tokens=tuple(Token(i, bytes_of(i)) for i in mentioned),
    )


@torch.inference_mode()
def lens_cell(
    context: Context, ids: Sequence[int], layer: int, *, is_middle: bool = False, top: int = 10
) -> LensCell:
    """The `top` most probable tokens of the cell of a layer, in the column after ids."""
    row = layer, is_middle
    if row not in _rows(context.model, True):
        raise UserError(
            f"there is no layer {layer}{' between attention and MLP' if is_middle else ''}; this "
            f"model has {'1' if is_middle else '0 (the embedding)'} to {context.config.n_layer}"
        )
    _, window = _window(context, ids)
    ((_, streams),) = _streams(context, ids, len(window) - 1, NOBODY)
    logits = _read(context, streams[row])[0]  # (V)
    logprobs, best = logits.log_softmax(-1).topk(min(top, len(logits)))
    bytes_of = context.tokenizer.token_bytes
    return LensCell(
        layer=layer,
        is_middle=is_middle,
        position=len(ids),
        tokens=tuple(Token(i, bytes_of(i)) for i in best.tolist()),
        logprobs=tuple(logprobs.tolist()),
    )


@torch.inference_mode()
def stream_norms(context: Context, ids: Sequence[int], *, watcher: Watcher = NOBODY) -> StreamNorms:
    """Euclidean norms of the residual stream after the embedding and each layer, at each token.

    Fewer tokens if it was cancelled.
    """
    start, _ = _window(context, ids)
    rows = _rows(context.model, False)
    norms: list[list[float]] = [[] for _ in rows]
    for done, streams in _streams(context, ids, 0, watcher):
        watcher.tell(f"token {start + done} of {len(ids)}")
        for found, row in zip(norms, rows, strict=True):
            found += streams[row].float().norm(dim=-1).tolist()
    return StreamNorms(start, tuple(map(tuple, norms)))


def _window(context: Context, ids: Sequence[int]) -> tuple[int, list[int]]:
    """Index of the context's first token, and the ids in it."""
    if not ids:
        raise UserError("the first token has no context, so the layers have read nothing")
    context.check_ids(ids)
    start = context.window_start(len(ids))
    return start, list(ids[start:])


def _rows(model: GPT, has_middle: bool) -> list[_Row]:
    """The rows from the embedding to the last layer."""
    middle = (True,) if has_middle else ()
    layers = range(1, model.config.n_layer + 1)
    return [(0, False), *((n, where) for n in layers for where in (*middle, False))]


def _streams(
    context: Context, ids: Sequence[int], first: int, watcher: Watcher
) -> Iterator[tuple[int, dict[_Row, Tensor]]]:
    """For some positions of the context at a time, from `first` on: index of the first of them, and
    the residual stream (n, C) of each row. They end early if it was cancelled."""
    start, window = _window(context, ids)
    reading = context.reading(start, len(ids), watcher)
    if len(context.read(window[:first], reading)) < first:
        return
    cache = context.fork(first)
    for done in range(first, len(window), CHUNK):
        if watcher.cancelled():
            return
        yield done, _read_chunk(context.model, window[done : done + CHUNK], cache)


def _read_chunk(model: GPT, ids: list[int], cache: KVCache) -> dict[_Row, Tensor]:
    """Read ids (T) after those in the cache → the stream (T, C) of every row."""
    seen: dict[tuple[Site, int], Tensor] = {}

    def record(site: Site) -> Handler:
        def see(layer: int, x: Tensor) -> None:
            seen[site, layer] = x[0]

        return see

    sites: tuple[Site, ...] = ("embedding", "enter", "attention", "layer")
    with hooked(model, {site: record(site) for site in sites}):
        model.hidden(torch.tensor([ids], device=model.wte.weight.device), cache)
    streams: dict[_Row, Tensor] = {(0, False): seen["embedding", 0]}
    for layer, block in enumerate(model.h, 1):
        assert isinstance(block, Block)  # noqa: S101 (for the type)
        middle = seen["enter", layer] + seen["attention", layer]
        streams[layer, True] = middle if block.norm_first else block.ln_1.forward(middle)
        streams[layer, False] = seen["layer", layer]
    return streams


def _read(context: Context, stream: Tensor) -> Tensor:
    """Residual stream (n, C) → logits (n, V), as if the network ended there."""
    model = context.model
    return context.raw_logits(model.proj_out(model.ln_f(stream)))


@dataclass
class _Columns:
    """The numbers of the columns so far, by row."""

    rows: list[_Row]
    n: int = 0
    """Number of columns."""
    ids: dict[_Row, list[int]] = field(default_factory=dict)
    logprobs: dict[_Row, list[float]] = field(default_factory=dict)
    chosen: dict[_Row, list[float | None]] = field(default_factory=dict)
    entropies: dict[_Row, list[float]] = field(default_factory=dict)
    divergences: dict[_Row, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for numbers in (self.ids, self.logprobs, self.chosen, self.entropies, self.divergences):
            for row in self.rows:
                numbers[row] = []

    def add(
        self,
        context: Context,
        streams: dict[_Row, Tensor],
        chosen: list[int],
        position: int,
        watcher: Watcher,
    ) -> None:
        """Add columns; chosen: their tokens in the text, of which the last may be missing.

        position: that of the first of these tokens.
        """
        last = self.rows[-1]
        logits = _read(context, streams[last])  # (n, V)
        check_finite(float(logits.sum()), position)
        log_p = logits.log_softmax(-1)
        p = log_p.clamp_min(_LEAST).exp_()
        ids = torch.tensor(chosen, device=p.device, dtype=torch.long)[:, None]
        missing = [None] * (len(p) - len(chosen))
        found = []
        for row in self.rows:
            if watcher.cancelled():
                return
            log_q = log_p if row == last else _read(context, streams[row]).log_softmax(-1)
            logprob, best = log_q.max(-1)
            of_chosen = [*log_q[: len(chosen)].gather(-1, ids)[:, 0].tolist(), *missing]
            entropy, divergence = _compare(log_p, p, log_q)
            found.append((best, logprob, of_chosen, entropy, divergence))
        for row, (best, logprob, of_chosen, entropy, divergence) in zip(
            self.rows, found, strict=True
        ):
            self.ids[row] += best.tolist()
            self.logprobs[row] += logprob.tolist()
            self.chosen[row] += of_chosen
            self.entropies[row] += entropy.clamp_min(0).tolist()
            self.divergences[row] += divergence.clamp_min(0).tolist()
        self.n += len(p)


def _compare(log_p: Tensor, p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
    """Entropy of q and KL(p ‖ q), (n) each, from p and log-probabilities (n, V)."""
    entropy, divergence = torch.zeros_like(p[:, 0]), torch.zeros_like(p[:, 0])
    for first in range(0, p.size(-1), _TOKENS):
        part = slice(None), slice(first, first + _TOKENS)
        q = log_q[part].clamp_min(_LEAST).exp_()
        entropy -= q.mul_(log_q[part]).sum(-1)
        divergence += (log_p[part] - log_q[part]).mul_(p[part]).sum(-1)
    return entropy, divergence
