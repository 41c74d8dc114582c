"""Decoding on a GPU without waiting: a whole step is one CUDA graph, read one step behind.

Eager PyTorch asks the GPU for some hundred small operators a token and waits for the result of
each token before it asks for the next. A graph asks for all of them at once (Gray 2019, "Getting
started with CUDA graphs"), the token that it draws is the input of its next run, and what it says
of a token comes through pinned memory while the next one is computed. gpt/generate.py is the
reference: a graph is used only where it gives what that gives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import cache
from typing import NamedTuple, cast

import torch
from torch import Tensor

from gpt.cache import KVCache
from gpt.context import Context
from gpt.draw import NAMES_TOKENS, Dials, Drawn, choose, settle
from gpt.model import GPT
from gpt.prediction import TOP, Prediction, ReadOut, check_finite, predict, predict_in_order
from gpt.settings import Sampling

SHORTEST = 128
"""Tokens that the shortest graph attends to; longer ones take twice as many each."""
_SLOTS = 4
_TOLERANCE = 0.05
"""Relative to the logits, what may be rounding; a mistake is a difference of about 1."""


def bucket(n_tokens: int, block_size: int) -> int:
    """How many positions the graph attends to that reads one token behind n_tokens."""
    size = SHORTEST
    while size <= n_tokens:
        size *= 2
    return min(size, block_size)


class Slot:
    """The part of a static cache that one layer takes."""

    def __init__(self, kept: Tensor, length: Tensor, mask: Tensor) -> None:
        """kept (2, nh, S, hs): keys and values; length (): tokens in it; mask (1, 1, 1, S)."""
        self._kept, self._length, self.mask = kept, length, mask

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k, v (1, nh, 1, hs) → all of the bucket, (1, nh, S, hs) each."""
        new = torch.stack((k[0], v[0]))  # (2, nh, 1, hs)
        keys, values = self._kept.index_copy_(2, self._length.view(1), new)
        return keys[None], values[None]


class StaticCache:
    """A KV cache whose length is on the device: shapes and memory are those of a whole bucket."""

    def __init__(self, kept: Tensor) -> None:
        """kept (n_layer, 2, 1, nh, S, hs): memory of a KVCache."""
        self._layers = list(kept[:, :, 0])
        self._places = torch.arange(kept.size(-2), device=kept.device)
        self._hidden = torch.finfo(kept.dtype).min
        self.length = torch.zeros((), dtype=torch.long, device=kept.device)
        self.mask = torch.zeros(1, 1, 1, kept.size(-2), dtype=kept.dtype, device=kept.device)

    def begin(self) -> None:
        """Let the next token see what stands before it, and itself."""
        self.mask.copy_((self._places > self.length) * self._hidden)

    def slot(self, layer: int) -> Slot:
        """What a layer takes."""
        return Slot(self._layers[layer], self.length, self.mask)

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """As Slot.append."""
        return self.slot(layer).append(layer, k, v)

    def advance(self, n_tokens: int) -> None:
        """Count the tokens that every layer has appended."""
        self.length.add_(n_tokens)


class Code(NamedTuple):
    """The functions that a graph is made of."""

    network: GPT
    predict: Callable[[Tensor], tuple[Prediction, Tensor]] = predict_in_order
    settle: Callable[[Tensor, Tensor | None, Dials, Tensor], tuple[Tensor, Tensor]] = settle


class Graph:
    """A step for one token in a bucket: from the token drawn last to the next one."""

    def __init__(
        self, code: Code, kept: Tensor, dials: Dials, hidden: Tensor, *, names_tokens: bool
    ) -> None:
        """hidden (at least S, E): where the hidden state of each position goes.

        names_tokens: whether it follows settings that name tokens, which costs a sort more.
        """
        self.size, self._names_tokens = kept.size(-2), names_tokens
        self._code, self._dials, self._hidden = code, dials, hidden
        self._cache = StaticCache(kept)
        self._token = torch.zeros(1, 1, dtype=torch.long, device=kept.device)
        self._step = torch.zeros((), dtype=torch.long, device=kept.device)
        self.n_top = min(TOP, code.network.config.vocab_size)
        self.result = torch.empty(6 + 3 * self.n_top, device=kept.device)
        """All that `read` gives, as float32, whole numbers by their bits."""
        self.logits = self.result
        """(V) of the last run."""
        self.run: Callable[[], None] = self._once

    def start(self, token_id: int, length: int) -> None:
        """Let the next run read this token behind so many."""
        self._token.fill_(token_id)
        self._cache.length.fill_(length)
        self._step.zero_()

    def _once(self) -> None:
        cache = self._cache
        here = cache.length.view(1).clone()
        cache.begin()
        network, predict, settle = self._code
        hidden = network.hidden(self._token, cast(KVCache, cache))[0]  # (1, E)
        self._hidden.index_copy_(0, here, hidden)
        says, order = predict(network.logits(hidden))
        known = None if self._names_tokens else order
        token, final = settle(says.logits[0], known, self._dials, self._step)
        chosen = token.view(1)
        self._token.copy_(token)
        self._dials.seen.index_fill_(0, chosen, True)
        self._step.add_(1)
        own = says.logprobs[0].index_select(0, chosen)
        rank = (says.logprobs[0] > own).sum()[None] + 1
        whole = torch.cat([chosen, rank, says.top_ids[0]]).to(torch.int32).view(torch.float32)
        theirs = final.index_select(0, torch.cat([chosen, says.top_ids[0]]))
        numbers = (says.total, says.entropy, own, theirs[:1], says.top_logprobs[0], theirs[1:])
        self.result.copy_(torch.cat([whole, *numbers]))
        self.logits = says.logits[0]

    def capture(self, token_id: int, length: int) -> None:
        """Make one launch of all that a run does. Raises RuntimeError where that cannot be.

        token_id, length: as for `start`; only the memory behind them changes.
        """
        self.start(token_id, length)
        device = self.result.device
        if device.type != "cuda":
            self._once()  # what it leaves behind is the same everywhere
            return
        side = _side_stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            self._once()  # libraries take their memory with the first call, and not in a graph
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            self._once()
        self.run = graph.replay

    def read(self, row: Tensor, top: int) -> tuple[float, ReadOut, Drawn]:
        """The sum of the logits and what they say. row: a copy of `result` on the CPU."""
        n = self.n_top
        token_id, rank, *ids = row[: 2 + min(top, n)].view(torch.int32).tolist()
        total, entropy, own, final, *best = row[n + 2 : n + 6 + len(ids)].tolist()
        after = dict(zip(ids, row[2 * n + 6 :].tolist(), strict=False))
        drawn = Drawn(token_id, {**after, token_id: final})
        return total, ReadOut(own, rank, entropy, ids, best), drawn


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Where graphs are captured: the same always, for cuBLAS keeps memory for every stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class Ring:
    """Copies of the last results on the CPU, each of which is there when the GPU has come to it."""

    def __init__(self, like: Tensor) -> None:
        on_gpu = like.is_cuda
        self._rows = torch.empty(_SLOTS, *like.shape, pin_memory=on_gpu)
        self._events = [torch.cuda.Event() for _ in range(_SLOTS if on_gpu else 0)]  # type: ignore[no-untyped-call]

    def put(self, n: int, result: Tensor) -> None:
        """Let the GPU copy a result here when it has it."""
        self._rows[n % _SLOTS].copy_(result, non_blocking=True)
        if self._events:
            self._events[n % _SLOTS].record(torch.cuda.current_stream(result.device))

    def get(self, n: int) -> Tensor:
        """The result that was put as number n, one of the last."""
        if self._events:
            self._events[n % _SLOTS].synchronize()
        return self._rows[n % _SLOTS]


class Graphs:
    """The graphs of a context, each captured when it is needed first.

    There is one a bucket, and another one for settings that name tokens.
    """

    def __init__(self, context: Context) -> None:
        self.context, model = context, context.model
        self._device = model.wte.weight.device
        block_size = model.config.block_size
        self._dials = Dials(model.config.vocab_size, block_size, self._device)
        self._hidden = torch.empty(0, device=self._device)
        self._memory = 0
        """Address of the cache that the graphs were captured with."""
        self._graphs: dict[tuple[int, bool], Graph] = {}
        self._plain = self._code = Code(model)
        self.reason = ""
        """Why graphs are not used, where they are not."""
        self.put_aside = ""
        """Why other code than the network's own was not used, where it was not."""

    def use(self, code: Code) -> None:
        """Capture what comes from this code, as long as it gives what the network gives."""
        self._code = code
        self._graphs.clear()

    @property
    def is_fused(self) -> bool:
        """Whether the code is another than that of gpt/model.py."""
        return self._code is not self._plain

    @torch.inference_mode()
    def draw(
        self, path: list[int], sampling: Sampling, start: int, n: int, top: int
    ) -> Iterator[tuple[ReadOut, Drawn]]:
        """Draw up to n tokens behind path and append them; fewer where a bucket is full.

        start: where in the path the context begins. Nothing is drawn where there is no graph for
        it, or where more candidates are wanted than a graph knows.
        """
        read = len(path) - start - 1
        graph = self._graph(path, start, sampling) if n > 0 and top <= TOP else None
        if graph is None:
            return
        n = min(n, graph.size - read)
        # A word that is banned or boosted in pieces needs the last token, which is on its way.
        words = [*sampling.banned, *(ids for ids, _ in sampling.boosted)]
        ahead = 1 if any(len(ids) > 1 for ids in words) else 2
        self._dials.set(sampling, path, n)
        self.context.truncate(read)
        graph.start(path[-1], read)
        ring, asked = Ring(graph.result), 0
        for done in range(n):
            while asked < min(done + ahead, n):
                if ahead == 1:
                    self._dials.lean(sampling, path)
                graph.run()
                ring.put(asked, graph.result)
                asked += 1
            total, read_out, drawn = graph.read(ring.get(done), top)
            check_finite(total, len(path))
            self.context.count(path[-1], self._hidden[read + done])
            path.append(drawn.token_id)
            yield read_out, drawn

    @torch.inference_mode()
    def _graph(self, path: Sequence[int], start: int, sampling: Sampling) -> Graph | None:
        """The graph for the next token, which is known to compute what the network does."""
        context, block_size = self.context, self.context.config.block_size
        read = len(path) - start - 1
        if self.reason or read >= block_size:
            return None
        size = bucket(read, block_size)
        kept = context.cache.first(size)
        if kept.data_ptr() != self._memory:
            self._graphs.clear()
            self._memory = kept.data_ptr()
            self._hidden = context.hidden[-1].repeat(block_size, 1)  # (block_size, E)
        key = size, bool(sampling.active & NAMES_TOKENS)
        if key not in self._graphs:
            kept[..., context.cache.length :, :] = 0  # weights of 0 do not hide NaN
            self._make(key, kept, path, start)
        return self._graphs.get(key)

    def _make(self, key: tuple[int, bool], kept: Tensor, path: Sequence[int], start: int) -> None:
        """Capture a graph and compare it; where that fails, try plain code, then use none."""
        graph = Graph(self._code, kept, self._dials, self._hidden, names_tokens=key[1])
        try:
            with torch.cuda.device(self._device) if kept.is_cuda else nullcontext():
                graph.capture(path[-1], len(path) - start - 1)
                self._compare(graph, path, start)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a compiler may fail in any way
            why = str(error) or type(error).__name__
            if not self.is_fused:
                self.reason = why
                return
            self.put_aside = why
            self.use(self._plain)
            self._make(key, kept, path, start)
        else:
            self._graphs[key] = graph

    def _compare(self, graph: Graph, path: Sequence[int], start: int) -> None:
        """Raise RuntimeError where a graph does not give what the eager network does."""
        context, sampling = self.context, Sampling(seed=1)
        expected = context.predict(context.read(path[start:])[-1]).logits[0]
        self._dials.set(sampling, path, 1)
        graph.start(path[-1], len(path) - start - 1)
        graph.run()
        apart = (graph.logits - expected).norm() / (expected - expected.mean()).norm()
        if not apart <= _TOLERANCE:
            raise RuntimeError("the graph computes something else than the network")
        token_id = choose(predict(graph.logits[None]), sampling, path, len(path)).token_id
        _, _, drawn = graph.read(graph.result.cpu(), 0)
        if drawn.token_id != token_id:
            raise RuntimeError("the graph draws another token than the network's distribution")
