"""Compile the code of a CUDA graph with torch.compile, which fuses many small operators.

The first compilation is slow, so another process does it and fills the compiler's caches on disk.
After that, compilation needs only seconds. A block is compiled once and serves every layer.
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
from gpt.fast.build import Build, cache_directory, code_path, failure_note, mark_used
from gpt.fast.cuda_graph import Graphs
from gpt.fast.cuda_step import StepCode
from gpt.fast.static_cache import StaticCache
from gpt.generate import draws
from gpt.model import GPT, Attention, Block, Rotation
from gpt.settings import Sampling
from gpt.tokenizer import CharTokenizer

_SOURCES = (
    "model.py",
    "sampling.py",
    "prediction.py",
    "draw.py",
    "fast/static_cache.py",
    "fast/cuda_step.py",
    "fast/cuda_compile.py",
)


class _Linear(nn.Linear):
    """Adds the bias separately. A product of one row becomes a sum, which the compiler fuses."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) → (…, out)."""
        y = F.linear(x, self.weight)
        return y if self.bias is None else y + self.bias


class _Attention(Attention):
    """Attention of one query by sums over all positions, which many threads can share."""

    def mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """q (1, nh, 1, hs), k and v (1, kv, S, hs), mask (1, 1, 1, S) → (1, nh, 1, hs)."""
        q = q.view(
            1, k.size(1), -1, 1, q.size(-1)
        )  # (1, kv, nh / kv, 1, hs): those that share keys
        k, v = k[:, :, None], v[:, :, None]  # (1, kv, 1, S, hs)
        scores = (k.float() * (q.float() * self.scale)).sum(-1)  # (1, kv, nh / kv, S)
        if mask is not None:
            scores = scores + mask
        weights = scores.softmax(-1)[..., None]  # (1, kv, nh / kv, S, 1)
        return (weights * v.float()).sum(-2, keepdim=True).flatten(1, 2).to(q.dtype)


_FUSIBLE: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: _Linear, Attention: _Attention}
"""Class of a module → a class that computes the same in a way that the compiler can fuse."""


class _Layer(nn.Module):
    """Calls a compiled block, which is the same for all layers, with the cache of one layer."""

    def __init__(self, block: Block, layer: int) -> None:
        super().__init__()
        self.block, self.layer = block, layer

    def forward(self, x: Tensor, rotation: Rotation | None, cache: StaticCache) -> Tensor:
        """(1, 1, C) → (1, 1, C)."""
        return self.block(x, rotation, cache.layer(self.layer))  # type: ignore[no-any-return]


def compiled_blocks(model: GPT) -> StepCode:
    """Code that computes what the network does, with the same weights. Compiles at its first run.

    A block, which all layers share, and what follows the logits; sorting them is PyTorch's own.
    """
    weight = model.wte.weight
    # Turns products of one row into sums, which are fused with their neighbours.
    options: Any = {"coordinate_descent_tuning": True} if weight.is_cuda else None
    dtype = str(weight.dtype).removeprefix("torch.")
    twin = empty_network(model.config, dtype, weight.device.type)
    twin.load_state_dict(model.state_dict(), assign=True)
    for module in twin.h.modules():
        module.__class__ = _FUSIBLE.get(type(module), type(module))
    for layer, block in enumerate(cast(Iterable[Block], twin.requires_grad_(False).eval().h)):
        block.attn.layer = 0
        block.compile(options=options, dynamic=True)  # one for all lengths of the cache
        twin.h[layer] = _Layer(block, layer)
    plain = StepCode(twin)
    return StepCode(
        twin, torch.compile(plain.describe), torch.compile(plain.draw), torch.compile(plain.report)
    )


class CudaBuild(Build):
    """Compiled code for the graphs of a context."""

    def __init__(self, graphs: Graphs) -> None:
        super().__init__()
        self._graphs, model = graphs, graphs.context.model
        config, weight = model.config, model.wte.weight
        gpu = torch.cuda.get_device_name(weight.device) if weight.is_cuda else "none"
        self._config = {**config.to_dict(), "n_layer": min(1, config.n_layer), "dropout": 0.0}
        facts = {"config": self._config, "dtype": str(weight.dtype), "gpu": gpu}
        self._filled = code_path("fused", ".filled", _SOURCES, facts)
        """This file exists once the compiler's caches are filled."""

    def start(self, *, build: bool) -> None:
        """If build is true, install the code, or start to fill the compiler's caches for it."""
        if not build:
            return
        weight = self._graphs.context.model.wte.weight
        caches = os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_directory() / "caches"))
        if self._filled.exists():
            self.install()
        elif not failure_note(self._filled).exists():
            request = {
                "config": self._config,
                "dtype": str(weight.dtype).removeprefix("torch."),
                "device": str(weight.device),
                "filled": str(self._filled),
                "shortest": cuda_graph.SHORTEST,
            }
            self.run("gpt.fast.cuda_compile", request, TORCHINDUCTOR_CACHE_DIR=caches)

    @property
    def is_installed(self) -> bool:
        """Whether graphs use the compiled code."""
        return self._graphs.is_compiled

    def install(self) -> None:
        """Let the graphs use the code if the caches are filled. They check what it computes."""
        if self._filled.exists():
            self._graphs.use(compiled_blocks(self._graphs.context.model))
            mark_used([self._filled])


def fill(config: ModelConfig, dtype: str, device: str) -> None:
    """Fill the compiler's caches: draw with a graph of each size from a network of random weights.

    Raises RuntimeError if the code fails or computes wrong numbers.
    """
    model = empty_network(config, dtype, torch.device(device).type).to_empty(device=device)
    for weight in model.requires_grad_(False).eval().parameters():
        weight.normal_(std=0.02)
    context = Context(model, CharTokenizer(""))  # no text is encoded or decoded
    context.graphs = graphs = Graphs(context)
    graphs.use(compiled_blocks(model))
    for _ in range(2):  # with a cache that grows, then in a part of the grown one
        size = 0
        while size < config.block_size:
            size = cuda_graph.bucket_size(size, config.block_size)
            for sampling in (Sampling(), Sampling(repetition_penalty=1.1)):
                context.truncate(0)
                list(draws(context, [0] * max(1, size - 2), sampling, 2, 10))
                if not graphs.is_compiled:
                    raise RuntimeError(graphs.why_not_compiled)


def main() -> None:
    """Fill the caches as a JSON request asks. Write a file that says so, or why it failed."""
    request: dict[str, Any] = json.loads(sys.argv[1])
    if hasattr(os, "nice"):
        os.nice(19)  # everything else is more urgent
    cuda_graph.SHORTEST = request["shortest"]
    filled = Path(request["filled"])
    config = ModelConfig.from_dict(request["config"])
    try:
        fill(config, request["dtype"], request["device"])
        filled.touch()
    except Exception:
        failure_note(filled).write_text(traceback.format_exc(), encoding="utf-8")
        raise


if __name__ == "__main__":
    main()
