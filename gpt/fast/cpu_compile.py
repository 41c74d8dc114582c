"""Build the machine code that gpt/fast/cpu_step.py runs; it takes half a minute.

Inductor (Ansel et al. 2024, doi:10.1145/3620665.3640366) compiles a block of gpt/model.py to one
function. The weights are its arguments, so one function serves every layer and memory holds the
weights once. Attention and products with weights are written as sums over columns (see
gpt/weights/products.py), which become loops that stream the numbers from memory.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from gpt.config import ModelConfig
from gpt.draw import race, settings_tensor
from gpt.fast.build import failure_note
from gpt.fast.cpu_step import (
    ROWS,
    batch_paths,
    block_arguments,
    is_intel,
    parameter_names,
    part_arguments,
)
from gpt.fast.inductor import prefetching, teach_dot4
from gpt.model import Block, Rotation, rotary
from gpt.prediction import TOP, predict
from gpt.settings import Sampling
from gpt.weights import words
from gpt.weights.quantize import CACHE_DTYPES, SmallGPT, replace_linears

_LONGEST = 1 << 20
"""Most tokens that a compiled block can attend to."""
_EXAMPLE_LENGTH, _EXAMPLE_CAPACITY = 1021, 2039
"""Tokens that the block attends to while it is compiled, and tokens that its cache has room for.
So many that threads share the loops, and different from every other size in a network."""
_HEAD_PART = 32
"""Numbers of a head that are summed by one loop; a head has several such sums at once."""
_INDUCTOR_OPTIONS = {
    "cpp.enable_floating_point_contract_flag": "fast",  # x y + z in one instruction
    "memory_planning": True,  # one allocation per call; dozens take longer
    # They are named by a hash that this program computes.
    "aot_inductor.precompile_headers": shutil.which("openssl") is not None,
}


class _PlainAttention(TorchFunctionMode):
    """Computes attention in a way that is fast in compiled code for one sequence.

    That of one query is sums, which the compiler fuses with their neighbours.
    """

    def __torch_function__(  # type: ignore[no-untyped-def]
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ):
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        q, k, v = (each[0].float() for each in args[:3])  # (nh, T, hs), (kv, S, hs) twice
        q, mask = q * kwargs["scale"], args[3]
        if mask is not None:  # (T, S)
            rows = q.view(len(k), -1, q.size(-1))  # (kv, nh T / kv, hs)
            scores = (rows @ k.transpose(1, 2)).view(len(q), *mask.shape) + mask  # (nh, T, S)
            weights = scores.softmax(-1).view(len(k), -1, mask.size(1))  # (kv, nh T / kv, S)
            return (weights @ v).view(args[0].shape)
        # Here q is (kv, nh / kv, hs).
        scores = (k[:, None] * q[:, :, None]).sum(-1)  # (kv, nh / kv, S)
        weights = scores.softmax(-1)[..., None]  # (kv, nh / kv, S, 1)
        # Several sums at once keep a core busy while each waits for its last addition.
        sums = [(weights * part[:, None]).sum(2) for part in v.split(_HEAD_PART, -1)]
        return torch.cat(sums, -1)[None]  # (1, kv, nh / kv, hs)


class _LayerCache:
    """The memory of one layer; a block uses it as its KV cache."""

    def __init__(self, keys: Tensor, values: Tensor, seen: Tensor, rounding: torch.dtype) -> None:
        """keys, values: (kv, capacity, hs). seen: as for a block. rounding: of keys and values."""
        self._memory, self._length = (keys, values), seen.size(-1)
        self.mask = seen if seen.dim() > 1 else None
        self._rounding = rounding

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k, v (1, kv, T, hs) → all keys and values, (1, kv, S, hs) each."""
        n = k.size(2)
        for memory, new in zip(self._memory, (k, v), strict=True):
            memory.narrow(1, self._length - n, n).copy_(new[0].to(self._rounding))
        keys, values = (
            memory.narrow(1, 0, self._length)[None].to(k.dtype) for memory in self._memory
        )
        return keys, values


class _BlockStep(nn.Module):
    """A block with its weights and its cache as arguments."""

    def __init__(self, block: Block, rounding: torch.dtype) -> None:
        """rounding: what keys and values are rounded to."""
        super().__init__()
        self.block = [block]  # in a list, or its parameters would become this module's
        weights = dict(block.named_parameters())
        self.matrices = [name for name, weight in weights.items() if weight.dim() > 1]
        self.vectors = {name: len(weight) for name, weight in weights.items() if weight.dim() == 1}
        self.rounding = rounding

    def forward(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        seen: Tensor,
        rotation: Rotation | None,
        weights: list[Tensor],
    ) -> Tensor:
        """x (1, T, C), keys and values (kv, capacity, hs) → (1, T, C).

        seen: (S) for a single token; its size is the number of tokens with the new one, because a
        compiled function accepts only tensors. (T, S) for those of branches, added to the scores.
        weights: from `block_arguments`.
        """
        torch._check(seen.size(-1) <= keys.size(1))  # type: ignore[no-untyped-call]
        (block,) = self.block
        *matrices, scale_and_vectors = weights
        block.attn.scale = scale_and_vectors[0]  # type: ignore[assignment]
        parameters = dict(zip(self.matrices, matrices, strict=True))
        vectors = torch.split(scale_and_vectors[1:], list(self.vectors.values()))
        parameters.update(zip(self.vectors, vectors, strict=True))
        cache = _LayerCache(keys, values, seen, self.rounding)
        with _PlainAttention():
            y: Tensor = functional_call(block, parameters, (x, rotation, cache))
            return y


class _InputOrOutput(nn.Module):
    """The network before the first block, or after the last one, with weights as arguments."""

    def __init__(self, config: ModelConfig, dtype: str, part: str) -> None:
        super().__init__()
        model = SmallGPT(replace(config, n_layer=0), dtype).eval().requires_grad_(False)
        model.forward = {"input": self._input, "output": self._output}[part]  # type: ignore[assignment]
        self.model = [model]
        self.names = parameter_names(part, model)
        self.weights = part_arguments(part, model)

    def forward(self, x: Tensor, weights: list[Tensor]) -> tuple[Tensor, ...]:
        """x: a token's id and position (2) for the input, (1, 1, C) for the output."""
        parameters = dict(zip(self.names, weights, strict=True))
        y: tuple[Tensor, ...] = functional_call(self.model[0], parameters, (x,))
        return y

    def _input(self, id_and_position: Tensor) -> tuple[Tensor, ...]:
        """(2) → x (1, 1, C), then the position's rotation if positions are rotary."""
        (model,) = self.model
        x, rotation = model.embed(id_and_position[:1], id_and_position[1:])  # (1, C)
        return x[None], *(rotation or ())

    def _output(self, x: Tensor) -> tuple[Tensor, ...]:
        """x (1, 1, C) → hidden state (1, 1, E), then the fields of its Prediction."""
        (model,) = self.model
        hidden = model.proj_out(model.ln_f(x))
        return hidden, *predict(model.logits(hidden[0]))


def _export_block(config: ModelConfig, dtype: str, n: int = 1) -> ExportedProgram:
    """n: tokens of a call, each of another branch."""
    block = Block(config, 0).eval().requires_grad_(False)
    replace_linears(block, dtype)
    shape, stored = (config.n_kv, _EXAMPLE_CAPACITY, config.head_size), CACHE_DTYPES[dtype]
    keys, values = torch.zeros(2, *shape, dtype=stored if n == 1 else torch.float32)
    rotation = rotary(torch.arange(n), config) if config.positions == "rotary" else None
    weights = block_arguments(block)
    x = torch.zeros(1, n, config.n_embd)
    seen = torch.zeros(_EXAMPLE_LENGTH) if n == 1 else torch.zeros(n, _EXAMPLE_LENGTH)
    capacity, length = (Dim(name, min=2 * n, max=_LONGEST) for name in ("capacity", "S"))
    fixed = None if rotation is None else (None, None)
    sizes = {seen.dim() - 1: length}
    dynamic = (None, {1: capacity}, {1: capacity}, sizes, fixed, [None] * len(weights))
    step = _BlockStep(block, stored)
    return export(step, (x, keys, values, seen, rotation, weights), dynamic_shapes=dynamic)


def _export_input(config: ModelConfig, dtype: str) -> ExportedProgram:
    step = _InputOrOutput(config, dtype, "input")
    return export(step, (torch.zeros(2, dtype=torch.long), step.weights))


def _export_output(config: ModelConfig, dtype: str, n: int = 1) -> ExportedProgram:
    """n: as for a block."""
    step = _InputOrOutput(config, dtype, "output")
    return export(step, (torch.zeros(1, n, config.n_embd), step.weights))


class _Race(nn.Module):
    """gpt.draw.race as a module, which torch.export needs."""

    def forward(
        self, scores: Tensor, ids: Tensor, settings: Tensor, key: Tensor, all_scores: Tensor
    ) -> tuple[Tensor, Tensor]:
        return race(scores, ids, settings, key, all_scores)


def _export_race(config: ModelConfig, dtype: str) -> ExportedProgram:
    return _export_race_of(min(TOP, config.vocab_size), config.vocab_size)


def _export_race_of_all(config: ModelConfig, dtype: str) -> ExportedProgram:
    return _export_race_of(config.vocab_size, config.vocab_size)


def _export_race_of(n: int, vocab_size: int) -> ExportedProgram:
    key = torch.zeros(2, dtype=torch.int32)
    all_scores = torch.zeros(vocab_size)
    arguments = torch.zeros(n), torch.arange(n), settings_tensor(Sampling()), key, all_scores
    return export(_Race(), arguments)


EXPORTS: dict[str, Callable[[ModelConfig, str], ExportedProgram]] = {
    "input": _export_input,
    "block": _export_block,
    "output": _export_output,
    "batch": partial(_export_block, n=ROWS),
    "batch_output": partial(_export_output, n=ROWS),
    "race": _export_race,
    "race_of_all": _export_race_of_all,
}


def build(part: str, config: ModelConfig, dtype: str, out: Path) -> None:
    """Compile one of EXPORTS to a shared library; out appears complete or not at all."""
    from torch._inductor import aoti_compile_and_package

    if words.are_fast():
        teach_dot4()
    # Intel's processors do not prefetch by themselves across the end of a page of 4 KiB. AMD's do,
    # and single sums are faster without; a loop of eight is too long for them to look ahead.
    prefetches = is_intel() or part in batch_paths(config, dtype)
    with torch.no_grad(), prefetching(prefetches), _scratch(out.parent) as scratch:
        program = EXPORTS[part](config, dtype)
        package = aoti_compile_and_package(
            program,
            package_path=f"{scratch}/{part}.pt2",
            inductor_configs=_INDUCTOR_OPTIONS,
        )
        # The weights are arguments, so of the package only the library is needed.
        with zipfile.ZipFile(package) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".so"))
            Path(archive.extract(name, scratch)).replace(out)


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A temporary directory for everything that the compiler writes."""
    with tempfile.TemporaryDirectory(prefix="build-", dir=parent) as directory:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = directory
        yield Path(directory)


def main() -> None:
    """Build what a JSON request asks for. If that fails, write the reason to a file."""
    request: dict[str, Any] = json.loads(sys.argv[1])
    if hasattr(os, "nice"):
        os.nice(19)  # everything else is more urgent
    torch.set_num_threads(request["threads"])
    config = ModelConfig.from_dict(request["config"])
    for part, path in request["parts"].items():
        try:
            build(part, config, request["dtype"], Path(path))
        except Exception:
            failure_note(Path(path)).write_text(traceback.format_exc(), encoding="utf-8")
            raise


if __name__ == "__main__":
    main()
