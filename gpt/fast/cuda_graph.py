"""Decode on a GPU without waiting: one CUDA graph is a whole step, and results come one step late.

For each token, eager PyTorch launches some hundred small operators and waits for the result before
it starts the next token. A graph launches all of them at once (Gray 2019, "Getting started with
CUDA graphs"). The token that it draws is the input of its next run. What it says about a token is
copied to pinned memory while the next token is computed. gpt/generate.py is the reference: a graph
is used only if its results are the same.
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
from gpt.draw import NAMES_TOKENS, Drawn, SamplingTensors, choose, draw_from_logits
from gpt.fast.static_cache import StaticCache
from gpt.model import GPT
from gpt.prediction import TOP, Prediction, ReadOut, check_finite, predict, predict_in_order
from gpt.settings import Sampling

SHORTEST = 128
"""Tokens that the smallest graph attends to. Each larger graph attends to twice as many."""
_N_RESULTS = 4
"""Results that a ResultBuffer holds."""
_TOLERANCE = 0.05
"""Largest error that counts as rounding, relative to the logits. A mistake causes about 1."""


def bucket_size(n_tokens: int, block_size: int) -> int:
    """Positions that a graph attends to if it reads the token after n tokens."""
    size = SHORTEST
    while size <= n_tokens:
        size *= 2
    return min(size, block_size)


class StepCode(NamedTuple):
    """The functions that a graph is captured from."""

    network: GPT
    predict: Callable[[Tensor], tuple[Prediction, Tensor]] = predict_in_order
    draw: Callable[[Tensor, Tensor | None, SamplingTensors, Tensor], tuple[Tensor, Tensor]] = (
        draw_from_logits
    )


class Graph:
    """One step, from the token that was drawn last to the next one, with room for S tokens."""

    def __init__(
        self,
        code: StepCode,
        memory: Tensor,
        sampling: SamplingTensors,
        hidden: Tensor,
        *,
        names_tokens: bool,
    ) -> None:
        """Allocate memory; call `capture` before `run`.

        memory: (n_layer, 2, 1, nh, S, hs) of the KV cache. hidden: (n, E), n ≥ S, receives the
        hidden state of each position. names_tokens: whether settings may name tokens, which costs
        one more sort.
        """
        self.size, self._names_tokens = memory.size(-2), names_tokens
        self._code, self._sampling, self._hidden = code, sampling, hidden
        self._cache = StaticCache(memory)
        self._token = torch.zeros(1, 1, dtype=torch.long, device=memory.device)
        self._step = torch.zeros((), dtype=torch.long, device=memory.device)
        self.n_top = min(TOP, code.network.config.vocab_size)
        self.result = torch.empty(6 + 3 * self.n_top, device=memory.device)
        """Everything that `read` returns, as float32; integers are stored by their bits."""
        self.logits = self.result
        """(V) from the latest run."""
        self.run: Callable[[], None] = self._run_eagerly

    def start(self, token_id: int, length: int) -> None:
        """Let the next run read this token, with `length` tokens in the cache before it."""
        self._token.fill_(token_id)
        self._cache.length.fill_(length)
        self._step.zero_()

    def _run_eagerly(self) -> None:
        """Compute a step by calling its operators one by one; `capture` records them."""
        cache = self._cache
        position = cache.length.view(1).clone()
        cache.update_mask()
        network, predict, draw = self._code
        hidden = network.hidden(self._token, cast(KVCache, cache))[0]  # (1, E)
        self._hidden.index_copy_(0, position, hidden)
        prediction, order = predict(network.logits(hidden))
        logits, logprobs, top_ids = prediction.logits[0], prediction.logprobs[0], prediction.top_ids
        known_order = None if self._names_tokens else order
        token, final = draw(logits, known_order, self._sampling, self._step)
        chosen = token.view(1)
        self._token.copy_(token)
        self._sampling.seen.index_fill_(0, chosen, True)
        self._step.add_(1)
        logprob = logprobs.index_select(0, chosen)
        rank = (logprobs > logprob).sum()[None] + 1
        integers = torch.cat([chosen, rank, top_ids[0]]).to(torch.int32).view(torch.float32)
        after = final.index_select(0, torch.cat([chosen, top_ids[0]]))  # after the settings
        floats = (prediction.total, prediction.entropy, logprob, after[:1])
        self.result.copy_(torch.cat([integers, *floats, prediction.top_logprobs[0], after[1:]]))
        self.logits = logits

    def capture(self, token_id: int, length: int) -> None:
        """Make `run` one launch of everything in a step. Raises RuntimeError if that fails.

        token_id, length: as for `start`. Only memory after `length` tokens is overwritten.
        """
        self.start(token_id, length)
        device = self.result.device
        if device.type != "cuda":
            self._run_eagerly()  # changes the same memory as on a GPU
            return
        side = _side_stream(device)
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            self._run_eagerly()  # libraries allocate memory at the first call, which a graph cannot
        torch.cuda.current_stream(device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            self._run_eagerly()
        self.run = graph.replay

    def read(self, row: Tensor, top: int) -> tuple[float, ReadOut, Drawn]:
        """The sum of the logits, what they say about the drawn token, and how it was drawn.

        row: a copy of `result` on the CPU. top: number of candidates.
        """
        n = self.n_top
        token_id, rank, *ids = row[: 2 + min(top, n)].view(torch.int32).tolist()
        total, entropy, logprob, final, *best = row[n + 2 : n + 6 + len(ids)].tolist()
        after = dict(zip(ids, row[2 * n + 6 :].tolist(), strict=False))
        drawn = Drawn(token_id, {**after, token_id: final})
        return total, ReadOut(logprob, rank, entropy, ids, best), drawn


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """The one stream on which graphs are captured: cuBLAS keeps memory for every stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


class ResultBuffer:
    """Copies of the latest results on the CPU; `get` waits until the GPU has computed one."""

    def __init__(self, result: Tensor) -> None:
        """result: a tensor of the shape and device of all results."""
        on_gpu = result.is_cuda
        self._rows = torch.empty(_N_RESULTS, *result.shape, pin_memory=on_gpu)
        self._events = [torch.cuda.Event() for _ in range(_N_RESULTS if on_gpu else 0)]  # type: ignore[no-untyped-call]

    def put(self, n: int, result: Tensor) -> None:
        """Let the GPU copy result number n here once it is computed."""
        self._rows[n % _N_RESULTS].copy_(result, non_blocking=True)
        if self._events:
            self._events[n % _N_RESULTS].record(torch.cuda.current_stream(result.device))

    def get(self, n: int) -> Tensor:
        """Result number n, one of the latest."""
        if self._events:
            self._events[n % _N_RESULTS].synchronize()
        return self._rows[n % _N_RESULTS]


class Graphs:
    """The graphs of a context. Each is captured when it is first needed.

    For each size there may be two: one for settings that name tokens and one for all others.
    """

    def __init__(self, context: Context) -> None:
        self.context, model = context, context.model
        self._device = model.wte.weight.device
        block_size = model.config.block_size
        self._sampling = SamplingTensors(model.config.vocab_size, block_size, self._device)
        self._hidden = torch.empty(0, device=self._device)
        self._address = 0
        """Address of the KV cache that the graphs were captured with."""
        self._graphs: dict[tuple[int, bool], Graph] = {}
        """By size and by whether settings name tokens."""
        self._plain = self._code = StepCode(model)
        self.reason = ""
        """Why graphs are not used; empty if they are."""
        self.why_not_compiled = ""
        """Why code from `use` was given up; empty if it was not."""

    def use(self, code: StepCode) -> None:
        """Capture graphs from this code, as long as it computes what the network does."""
        self._code = code
        self._graphs.clear()

    @property
    def is_compiled(self) -> bool:
        """Whether graphs come from code that was passed to `use`."""
        return self._code is not self._plain

    @torch.inference_mode()
    def draw(
        self, path: list[int], sampling: Sampling, start: int, n: int, top: int
    ) -> Iterator[tuple[ReadOut, Drawn]]:
        """Draw up to n tokens after path and append them; fewer if a graph's memory is full.

        start: index of the first token in the context. top: number of candidates. Yields nothing
        if no graph fits or more candidates are wanted than a graph returns.
        """
        n_read = len(path) - start - 1
        graph = self._graph(path, start, sampling) if n > 0 and top <= TOP else None
        if graph is None:
            return
        n = min(n, graph.size - n_read)
        # The bias for a banned or boosted word of several tokens depends on the previous token.
        words = [*sampling.banned, *(ids for ids, _ in sampling.boosted)]
        ahead = 1 if any(len(ids) > 1 for ids in words) else 2
        self._sampling.set(sampling, path, n)
        self.context.truncate(n_read)
        graph.start(path[-1], n_read)
        results, n_launched = ResultBuffer(graph.result), 0
        for done in range(n):
            while n_launched < min(done + ahead, n):
                if ahead == 1:
                    self._sampling.set_bias(sampling, path)
                graph.run()
                results.put(n_launched, graph.result)
                n_launched += 1
            total, read_out, drawn = graph.read(results.get(done), top)
            check_finite(total, len(path))
            self.context.append(path[-1], self._hidden[n_read + done])
            path.append(drawn.token_id)
            yield read_out, drawn

    @torch.inference_mode()
    def _graph(self, path: Sequence[int], start: int, sampling: Sampling) -> Graph | None:
        """The graph for the next token, after a check that it computes what the network does."""
        context, block_size = self.context, self.context.config.block_size
        n_read = len(path) - start - 1
        if self.reason or n_read >= block_size:
            return None
        size = bucket_size(n_read, block_size)
        memory = context.cache.memory(size)
        if memory.data_ptr() != self._address:
            self._graphs.clear()
            self._address = memory.data_ptr()
            self._hidden = context.hidden[-1].repeat(block_size, 1)  # (block_size, E)
        key = size, bool(sampling.active & NAMES_TOKENS)
        if key not in self._graphs:
            memory[..., context.cache.length :, :] = 0  # a mask does not hide NaN
            self._make(key, memory, path, start)
        return self._graphs.get(key)

    def _make(self, key: tuple[int, bool], memory: Tensor, path: Sequence[int], start: int) -> None:
        """Capture and check a graph. If that fails, try the plain code, then use no graphs."""
        graph = Graph(self._code, memory, self._sampling, self._hidden, names_tokens=key[1])
        try:
            with torch.cuda.device(self._device) if memory.is_cuda else nullcontext():
                graph.capture(path[-1], len(path) - start - 1)
                self._compare(graph, path, start)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a compiler may raise anything
            reason = str(error) or type(error).__name__
            if not self.is_compiled:
                self.reason = reason
                return
            self.why_not_compiled = reason
            self.use(self._plain)
            self._make(key, memory, path, start)
        else:
            self._graphs[key] = graph

    def _compare(self, graph: Graph, path: Sequence[int], start: int) -> None:
        """Raise RuntimeError if a graph does not compute what the eager network does."""
        context, sampling = self.context, Sampling(seed=1)
        expected = context.predict(context.read(path[start:])[-1]).logits[0]
        self._sampling.set(sampling, path, 1)
        graph.start(path[-1], len(path) - start - 1)
        graph.run()
        error = (graph.logits - expected).norm() / (expected - expected.mean()).norm()
        if not error <= _TOLERANCE:
            raise RuntimeError("the graph does not compute what the network does")
        token_id = choose(predict(graph.logits[None]), sampling, path, len(path)).token_id
        _, _, drawn = graph.read(graph.result.cpu(), 0)
        if drawn.token_id != token_id:
            raise RuntimeError("the graph draws a different token than the network")
