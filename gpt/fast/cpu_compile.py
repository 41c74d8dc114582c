"""Build the machine code that gpt/fast/cpu_step.py runs; it takes half a minute.

Inductor (Ansel et al. 2024, doi:10.1145/3620665.3640366) makes one function of a block of
gpt/model.py. The weights are its arguments, so one function serves every layer and memory holds
them once. A product is written as a sum over columns (see `quantize.product`), which becomes a
loop of streaming loads, and so is attention.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from gpt.config import ModelConfig
from gpt.draw import numbers_of, race
from gpt.fast.build import failed
from gpt.fast.cpu_step import arguments, used_by
from gpt.model import Block, Rotation, rotary
from gpt.prediction import TOP, predict
from gpt.settings import Sampling
from gpt.weights.quantize import DTYPES, KEPT_IN, SmallGPT, shrink

_LONGEST = 1 << 20
"""Tokens that a compiled block may attend to."""
_USUAL, _CAPACITY = 1021, 2039
"""Tokens that it attends to when it is compiled, many enough that threads share their loops, and
how many there is room for. No other length may be the same."""
_PART = 32
"""Numbers of a head whose sums are written as one; several sums go on side by side."""
_AHEAD = 2048
"""Bytes between what a loop over a matrix loads and what it asks memory for."""
_HOW = {
    "cpp.enable_floating_point_contract_flag": "fast",  # x y + z in one instruction
    "memory_planning": True,  # what lives within a call in one piece: dozens take longer to get
}


class _Attend(TorchFunctionMode):
    """Attention of one query as sums and products, which melt into one loop with the rest."""

    def __torch_function__(  # type: ignore[no-untyped-def]
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ):
        if func is not nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        q, k, v = (each.float() for each in args)  # (1, nh, 1, hs), (1, nh, S, hs) twice
        weights = (k[0] * (q[0] * kwargs["scale"])).sum(-1).softmax(-1)[..., None]  # (nh, S, 1)
        # Sums of several parts of a head at once, as with the rows of a matrix.
        y = torch.cat([(weights * part).sum(1) for part in v[0].split(_PART, -1)], -1)
        return y[None, :, None]  # (1, nh, 1, hs)


class _Slot:
    """What a block takes for its KV cache: the memory of its layer, and how many tokens to see."""

    mask = None

    def __init__(self, keys: Tensor, values: Tensor, length: int) -> None:
        self._both, self._length = (keys, values), length  # (nh, capacity, hs) each

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """k, v (1, nh, 1, hs) → all keys and values, (1, nh, S, hs) each."""
        for kept, new in zip(self._both, (k, v), strict=True):
            kept.narrow(1, self._length - 1, 1).copy_(new[0])
        keys, values = (kept.narrow(1, 0, self._length)[None].to(k.dtype) for kept in self._both)
        return keys, values


class _BlockStep(nn.Module):
    """A block with everything as arguments."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = [block]  # in a list, so that its parameters are not this module's
        named = dict(block.named_parameters())
        self.matrices = [name for name, each in named.items() if each.dim() > 1]
        self.vectors = {name: len(each) for name, each in named.items() if each.dim() == 1}

    def forward(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        counted: Tensor,
        rotation: Rotation | None,
        weights: list[Tensor],
    ) -> Tensor:
        """x (1, 1, C), keys and values (nh, capacity, hs), weights as in `arguments` → (1, 1, C).

        counted (S): how many tokens there are with this one; a compiled function takes no numbers.
        """
        length = counted.size(0)
        torch._check(length <= keys.size(1))  # type: ignore[no-untyped-call]
        (block,) = self.block
        *matrices, others = weights
        block.attn.scale = others[0]  # type: ignore[assignment]
        named = dict(zip(self.matrices, matrices, strict=True))
        vectors = torch.split(others[1:], list(self.vectors.values()))
        named.update(zip(self.vectors, vectors, strict=True))
        with _Attend():
            y: Tensor = functional_call(block, named, (x, rotation, _Slot(keys, values, length)))
            return y


class _Ends(nn.Module):
    """What stands before the first block, or behind the last, with the weights as arguments."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype, part: str) -> None:
        super().__init__()
        model = SmallGPT(replace(config, n_layer=0), dtype).eval().requires_grad_(False)
        model.forward = {"input": self._input, "output": self._output}[part]  # type: ignore[assignment]
        self.model = [model]
        self.names = used_by(part, model)
        self.weights = [model.get_parameter(name).detach() for name in self.names]

    def forward(self, x: Tensor, weights: list[Tensor]) -> tuple[Tensor, ...]:
        """The input takes ids (1, 1) and a position in one tensor (2), the output x (1, 1, C)."""
        named = dict(zip(self.names, weights, strict=True))
        found: tuple[Tensor, ...] = functional_call(self.model[0], named, (x,))
        return found

    def _input(self, where: Tensor) -> tuple[Tensor, ...]:
        """Token id and position, (2) → x (1, 1, C), and the position's rotation if there is one."""
        (model,) = self.model
        ids, position = where[:1], where[1:]
        x = model.proj_in(model.wte(ids))  # (1, C)
        if model.config.positions == "learned":
            return ((x + model.wpe(position))[None],)
        return x[None], *rotary(position, model.config)

    def _output(self, x: Tensor) -> tuple[Tensor, ...]:
        """(1, 1, C) → hidden states (1, 1, E), and the fields of their Prediction."""
        (model,) = self.model
        hidden = model.proj_out(model.ln_f(x))
        return hidden, *predict(model.logits(hidden[0]))


def _export_block(config: ModelConfig, dtype: torch.dtype) -> ExportedProgram:
    block = Block(config, 0).eval().requires_grad_(False)
    shrink(block, dtype)
    kept = torch.zeros(2, config.n_head, _CAPACITY, config.head_size, dtype=KEPT_IN[dtype])
    rotation = None
    if config.positions == "rotary":
        rotation = rotary(torch.arange(1), config)
    weights = arguments(block)
    x, counted = torch.zeros(1, 1, config.n_embd), torch.zeros(_USUAL)
    example = (x, kept[0], kept[1], counted, rotation, weights)
    capacity, length = (Dim(name, min=2, max=_LONGEST) for name in ("capacity", "S"))
    fixed = None if rotation is None else (None, None)
    shapes = (None, {1: capacity}, {1: capacity}, {0: length}, fixed, [None] * len(weights))
    return export(_BlockStep(block), example, dynamic_shapes=shapes)


def _export_input(config: ModelConfig, dtype: torch.dtype) -> ExportedProgram:
    step = _Ends(config, dtype, "input")
    return export(step, (torch.zeros(2, dtype=torch.long), step.weights))


def _export_output(config: ModelConfig, dtype: torch.dtype) -> ExportedProgram:
    step = _Ends(config, dtype, "output")
    return export(step, (torch.zeros(1, 1, config.n_embd), step.weights))


class _Race(nn.Module):
    """gpt.draw.race with all that it takes as arguments."""

    def forward(
        self, scores: Tensor, ids: Tensor, numbers: Tensor, thrown: Tensor, everyone: Tensor
    ) -> tuple[Tensor, Tensor]:
        return race(scores, ids, numbers, thrown, everyone)


def _export_race(config: ModelConfig, dtype: torch.dtype) -> ExportedProgram:
    return _export_race_of(min(TOP, config.vocab_size), config.vocab_size)


def _export_race_of_all(config: ModelConfig, dtype: torch.dtype) -> ExportedProgram:
    return _export_race_of(config.vocab_size, config.vocab_size)


def _export_race_of(n: int, vocab_size: int) -> ExportedProgram:
    thrown = torch.zeros(2, dtype=torch.int32)
    everyone = torch.zeros(vocab_size)
    arguments = torch.zeros(n), torch.arange(n), numbers_of(Sampling()), thrown, everyone
    return export(_Race(), arguments)


EXPORTS: dict[str, Callable[[ModelConfig, torch.dtype], ExportedProgram]] = {
    "input": _export_input,
    "block": _export_block,
    "output": _export_output,
    "race": _export_race,
    "race_of_all": _export_race_of_all,
}


@contextmanager
def asking_ahead() -> Iterator[None]:
    """Let compiled loops over matrices ask memory for what they will load a little later.

    A processor fetches ahead by itself, but not across the end of a page of 4 KiB. Inductor has
    no such instruction; it is put behind each load of a vector. Where another version of Inductor
    is made otherwise, loops stay as they are.
    """
    try:
        from torch._inductor.codegen.cpp import CppVecKernel
        from torch._inductor.codegen.cpp_utils import cexpr_index
        from torch._inductor.virtualized import V

        load = CppVecKernel.load
    except (ImportError, AttributeError):
        yield
        return

    def load_and_ask(self: CppVecKernel, name: str, index: Any) -> Any:
        value = load(self, name, index)
        with suppress(AttributeError):
            given = V.graph.graph_inputs.get(name)
            if given is not None and len(given.get_size()) > 1:
                ahead = self.rename_indexing(index) + _AHEAD // given.get_dtype().itemsize
                place = f"{self.args.input(name)} + {cexpr_index(ahead)}"  # type: ignore[no-untyped-call]
                self.loads.writeline(f"__builtin_prefetch({place});")
        return value

    CppVecKernel.load = load_and_ask  # type: ignore[method-assign]
    try:
        yield
    finally:
        CppVecKernel.load = load  # type: ignore[method-assign]


def build(part: str, config: ModelConfig, dtype: str, out: Path) -> None:
    """Compile one of EXPORTS to a shared library, which appears complete or not at all."""
    from torch._inductor import aoti_compile_and_package

    with torch.no_grad(), asking_ahead(), _scratch(out.parent) as scratch:
        program = EXPORTS[part](config, DTYPES[dtype])
        package = aoti_compile_and_package(
            program,
            package_path=f"{scratch}/{part}.pt2",
            inductor_configs=_HOW,
        )
        # The weights are arguments, so the library is all there is in the package.
        with zipfile.ZipFile(package) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith(".so"))
            Path(archive.extract(name, scratch)).replace(out)


@contextmanager
def _scratch(parent: Path) -> Iterator[Path]:
    """A directory for all that the compiler writes."""
    with tempfile.TemporaryDirectory(prefix="build-", dir=parent) as directory:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = directory
        yield Path(directory)


def main() -> None:
    """Build what a JSON request asks for; where that fails, leave a note with the reason."""
    request: dict[str, Any] = json.loads(sys.argv[1])
    if hasattr(os, "nice"):
        os.nice(19)  # whatever else runs is more urgent
    torch.set_num_threads(request["threads"])
    config = ModelConfig.from_dict(request["config"])
    for part, path in request["parts"].items():
        try:
            build(part, config, request["dtype"], Path(path))
        except Exception:
            failed(Path(path)).write_text(traceback.format_exc(), encoding="utf-8")
            raise


if __name__ == "__main__":
    main()
