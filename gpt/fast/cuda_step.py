"""A whole step, from the token that was drawn last to the next one, as one CUDA graph.

For each token, eager PyTorch launches some hundred small operators. A graph launches all of them at
once (Gray 2019, "Getting started with CUDA graphs"). Its shapes and addresses never change: the
length, the token and the settings are numbers in the GPU's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple, cast

import torch
from torch import Tensor

from gpt.cache import KVCache
from gpt.draw import Drawn, SamplingTensors, draw_from_logits
from gpt.fast.static_cache import StaticCache
from gpt.model import GPT
from gpt.prediction import TOP, ReadOut, describe, highest_first


def report(ids: Tensor, logprobs: Tensor, final: Tensor, entropy: Tensor, total: Tensor) -> Tensor:
    """Everything that `Graph.read` returns, in one tensor of float32: one copy to the CPU.

    ids: of the drawn token and the candidates. logprobs, final: (V) before and after the settings.
    entropy, total: (1) of a Prediction. Integers are stored by their bits.
    """
    before, after = logprobs.index_select(0, ids), final.index_select(0, ids)
    rank = (logprobs > before[0]).sum()[None] + 1
    integers = torch.cat([ids, rank]).to(torch.int32).view(torch.float32)
    return torch.cat([integers, total, entropy, before, after])


class StepCode(NamedTuple):
    """The functions that a graph is captured from."""

    network: GPT
    describe: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]] = describe
    draw: Callable[[Tensor, Tensor | None, SamplingTensors, Tensor], tuple[Tensor, Tensor]] = (
        draw_from_logits
    )
    report: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor] = report


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

        memory: (n_layer, 2, 1, kv, S, hs) of the KV cache. hidden: (n, E), n ≥ S, receives the
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
        """From `report`."""
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
        network, describe, draw, report = self._code
        with self._fork():
            noise = self._sampling.noise(self._step)
        position = cache.length.view(1).clone()
        cache.update_mask()
        hidden = network.hidden(self._token, cast(KVCache, cache))[0]  # (1, E)
        logits = network.logits(hidden).float()  # (1, V)
        with self._fork():
            (logprobs,), entropy, total = describe(logits)
            self._hidden.index_copy_(0, position, hidden)
        order = highest_first(logits[0])
        known_order = None if self._names_tokens else order
        self._join()
        token, final = draw(logits[0], known_order, self._sampling, noise)
        ids = torch.cat([token.view(1), order[: self.n_top]])
        self.result.copy_(report(ids, logprobs, final, entropy, total))
        self.logits = logits[0]
        self._token.copy_(token)
        self._sampling.seen.index_fill_(0, ids[:1], True)
        self._step.add_(1)

    @contextmanager
    def _fork(self) -> Iterator[None]:
        """Compute on a second stream, at the same time as what follows on the first."""
        if self.result.is_cuda:
            second = _stream(self.result.device, 2)
            second.wait_stream(torch.cuda.current_stream(self.result.device))
            with torch.cuda.stream(second):
                yield
        else:
            yield

    def _join(self) -> None:
        """Wait on the first stream for the second."""
        if self.result.is_cuda:
            device = self.result.device
            torch.cuda.current_stream(device).wait_stream(_stream(device, 2))

    def capture(self, token_id: int, length: int) -> None:
        """Make `run` one launch of everything in a step. Raises RuntimeError if that fails.

        token_id, length: as for `start`. Only memory after `length` tokens is overwritten.
        """
        self.start(token_id, length)
        device = self.result.device
        if device.type != "cuda":
            self._run_eagerly()  # changes the same memory as on a GPU
            return
        side = _stream(device, 1)
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
        k = 1 + min(top, n)
        integers, floats = row[: n + 2].view(torch.int32), row[n + 2 :]
        (token_id, *ids), rank = integers[:k].tolist(), int(integers[-1])
        total, entropy, logprob, *best = floats[: 2 + k].tolist()
        own, *after = floats[3 + n : 3 + n + k].tolist()
        drawn = Drawn(token_id, {**dict(zip(ids, after, strict=True)), token_id: own})
        return total, ReadOut(logprob, rank, entropy, ids, best), drawn


@cache
def _stream(device: torch.device, number: int) -> torch.cuda.Stream:
    """Stream 1 or 2, on which all graphs are captured: cuBLAS keeps memory for every stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
