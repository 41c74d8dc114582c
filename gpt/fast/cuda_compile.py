"""torch.compile for the code of a CUDA graph: fewer operators, each of which does more.

Compiling takes long the first time, so a process of its own fills the compiler's caches on the
disk; after that it takes seconds. A block is compiled once and serves every layer.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.checkpoint import empty_network
from gpt.config import ModelConfig
from gpt.context import Context
from gpt.fast import cuda_graph
from gpt.fast.build import Build, cache_directory, failed, place, used
from gpt.fast.cuda_graph import Code, Graphs, StaticCache
from gpt.generate import draws
from gpt.model import GPT, Attention, Block, Rotation
from gpt.settings import Sampling
from gpt.tokenizer import CharTokenizer

_SOURCES = ("model.py", "fast/cuda_graph.py", "fast/cuda_compile.py")


class _Linear(nn.Linear):
    """The product and the bias apart: a product of one row alone becomes a sum, which melts."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        y = F.linear(x, self.weight)
        return y if self.bias is None else y + self.bias


class _Attention(Attention):
    """Attention of one query as sums over all positions, however many: they share the work."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q (1, nh, 1, hs), k and v (1, nh, S, hs), mask (1, 1, 1, S) → (1, nh, 1, hs)."""
        scores = (k.float() * (q.float() * self.scale)).sum(-1)  # (1, nh, S)
        if mask is not None:
            scores = scores + mask[:, :, 0]
        weights = scores.softmax(-1)[..., None]  # (1, nh, S, 1)
        return (weights * v.float()).sum(-2, keepdim=True).to(q.dtype)


_MELTING: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: _Linear, Attention: _Attention}
"""Modules, and how the same is computed where a compiler melts it."""


class _Layer(nn.Module):
    """A compiled block, which knows nothing of its place: only the cache that it gets differs."""

    def __init__(self, block: Block, layer: int) -> None:
        super().__init__()
        self.block, self.layer = block, layer

    def forward(self, x: Tensor, rotation: Rotation | None, cache: StaticCache) -> Tensor:
        """(1, 1, C) → (1, 1, C)."""
        return self.block(x, rotation, cache.slot(self.layer))  # type: ignore[no-any-return]


def fused(model: GPT) -> Code:
    """Code that computes what the network does, on the same weights; compiled at its first run.

    What follows the blocks stays as it is: a compiler gives a search through the whole vocabulary
    to one block of threads, which takes longer than PyTorch's own.
    """
    weight = model.wte.weight
    # Products of one row as sums, which melt into what stands around them.
    options: Any = {"coordinate_descent_tuning": True} if weight.is_cuda else None
    twin = empty_network(model.config, weight.dtype, weight.device.type)
    twin.load_state_dict(model.state_dict(), assign=True)
    for module in twin.h.modules():
        module.__class__ = _MELTING.get(type(module), type(module))
    for layer, block in enumerate(cast(Iterable[Block], twin.requires_grad_(False).eval().h)):
        block.attn.layer = 0
        block.compile(options=options, dynamic=True)  # one for all lengths of the cache
        twin.h[layer] = _Layer(block, layer)
    return Code(twin)


class Fusion(Build):
    """Fused code for the graphs of a context."""

    def __init__(self, graphs: Graphs) -> None:
        super().__init__()
        self._graphs, model = graphs, graphs.context.model
        config, weight = model.config, model.wte.weight
        gpu = torch.cuda.get_device_name(weight.device) if weight.is_cuda else "none"
        shapes = {**config.to_dict(), "n_layer": min(1, config.n_layer), "dropout": 0.0}
        facts = {"config": shapes, "dtype": str(weight.dtype), "gpu": gpu}
        self._facts = facts
        self._filled = place("fused", ".filled", _SOURCES, facts)

    def start(self, *, build: bool) -> None:
        """Install the code if the compiler's caches are filled, else fill them; only with build."""
        if not build:
            return
        weight = self._graphs.context.model.wte.weight
        caches = os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_directory() / "caches"))
        if self._filled.exists():
            self.install()
        elif not failed(self._filled).exists():
            request = {
                "config": self._facts["config"],
                "dtype": str(weight.dtype).removeprefix("torch."),
                "device": str(weight.device),
                "filled": str(self._filled),
                "shortest": cuda_graph.SHORTEST,
            }
            self.run("gpt.fast.cuda_compile", request, TORCHINDUCTOR_CACHE_DIR=caches)

    @property
    def is_installed(self) -> bool:
        """Whether the graphs are made of fused code."""
        return self._graphs.is_fused

    def install(self) -> None:
        """Let the graphs use it where the caches are filled; they compare what it gives."""
        if self._filled.exists():
            self._graphs.use(fused(self._graphs.context.model))
            used([self._filled])


def fill(config: ModelConfig, dtype: torch.dtype, device: str) -> None:
    """Compile everything once, on a network of random weights, for each size of a graph.

    Raises RuntimeError where that does not work.
    """
    model = empty_network(config, dtype, torch.device(device).type).to_empty(device=device)
    for weight in model.requires_grad_(False).eval().parameters():
        weight.normal_(std=0.02)
    context = Context(model, CharTokenizer(""))  # no text goes through it
    context.graphs = graphs = Graphs(context)
    graphs.use(fused(model))
    for _ in range(2):  # where the cache grows, and in a part of a cache that has grown
        size = 0
        while size < config.block_size:
            size = cuda_graph.bucket(size, config.block_size)
            context.truncate(0)
            list(draws(context, [0] * max(1, size - 2), Sampling(), 2, 10))
            if not graphs.is_fused:
                raise RuntimeError(graphs.put_aside)


def main() -> None:
    """Fill the caches as a JSON request asks, and note that, or the reason why not."""
    request: dict[str, Any] = json.loads(sys.argv[1])
    if hasattr(os, "nice"):
        os.nice(19)  # whatever else runs is more urgent
    cuda_graph.SHORTEST = request["shortest"]
    filled = Path(request["filled"])
    config = ModelConfig.from_dict(request["config"])
    try:
        fill(config, getattr(torch, request["dtype"]), request["device"])
        filled.touch()
    except Exception:
        failed(filled).write_text(traceback.format_exc(), encoding="utf-8")
        raise


if __name__ == "__main__":
    main()
