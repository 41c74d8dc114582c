"""Decode on a GPU without waiting: CUDA graphs draw tokens, and results come one step late.

The token that a graph draws is the input of its next run. What it says about a token is copied to
pinned memory while the next token is computed. gpt/generate.py is the reference: a graph is used
only if its results are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from gpt.context import Context
from gpt.draw import FAST, NAMES_TOKENS, Drawn, SamplingTensors, choose
from gpt.fast.cuda_step import Graph, StepCode
from gpt.prediction import TOP, ReadOut, check_finite, predict, read_out
from gpt.settings import Sampling

SHORTEST = 128
"""Tokens that the smallest graph attends to. Each larger graph attends to twice as many."""
_N_RESULTS = 4
"""Results that a ResultBuffer holds."""
_TOLERANCE = 0.05
"""Largest error that counts as rounding, relative to the logits. A mistake causes about 1."""
_READ_OUT = 1e-3
"""Largest error of a log-probability or an entropy, computed from the same logits."""


def bucket_size(n_tokens: int, block_size: int) -> int:
    """Positions that a graph attends to if it reads the token after n tokens."""
    size = SHORTEST
    while size <= n_tokens:
        size *= 2
    return min(size, block_size)


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

    def draw(
        self, path: list[int], sampling: Sampling, start: int, n: int, top: int
    ) -> Iterator[tuple[ReadOut, Drawn]]:
        """Draw up to n tokens after path and append them; fewer if the context is full.

        start: index of the first token in the context. top: number of candidates. Yields nothing
        if graphs are not used, do not know a setting, or return fewer candidates than are wanted.
        """
        if not sampling.active <= FAST:
            return
        end = len(path) + n
        while len(path) < end and top <= TOP:
            graph = self._graph(path, start, sampling)
            if graph is None:
                return
            n = min(end - len(path), graph.size - (len(path) - start - 1))
            yield from self._draw(graph, path, sampling, start, n, top)

    @torch.inference_mode()
    def _draw(
        self, graph: Graph, path: list[int], sampling: Sampling, start: int, n: int, top: int
    ) -> Iterator[tuple[ReadOut, Drawn]]:
        """Draw n tokens with a graph that has room for them."""
        n_read = len(path) - start - 1
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
        prediction = predict(graph.logits[None])
        token_id = choose(prediction, sampling, path, len(path)).token_id
        _, found, drawn = graph.read(graph.result.cpu(), 1)
        if drawn.token_id != token_id:
            raise RuntimeError("the graph draws a different token than the network")
        (read,) = read_out(prediction, [token_id], 1)
        numbers = zip((found.logprob, found.entropy), (read.logprob, read.entropy), strict=True)
        if not all(math.isclose(*pair, rel_tol=_READ_OUT, abs_tol=_READ_OUT) for pair in numbers):
            raise RuntimeError("the graph says something else about a token than the network")
