"""One token's step as machine code that gpt/fast/cpu_compile.py built for this machine.

For each token, decoding calls some hundred operators and reads every weight from memory. Code that
was compiled for a block does both faster. It is kept in the user's cache directory.
"""

from __future__ import annotations

import platform
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from gpt.cache import KVCache
from gpt.compiler import compiler, zig
from gpt.config import ModelConfig
from gpt.context import Context
from gpt.draw import choose
from gpt.fast import zig_compiler
from gpt.fast.build import Build, cache_directory, code_path, failure_note, mark_used
from gpt.model import GPT, Block
from gpt.prediction import TOP, Prediction
from gpt.settings import Sampling
from gpt.weights.quantize import Matrix

_SOURCES = (
    "model.py prediction.py sampling.py draw.py weights/groups.py weights/products.py "
    "weights/quantize.py weights/words.py fast/cpu_compile.py fast/inductor.py fast/cpu_step.py"
).split()
"""Files in gpt/ that the machine code depends on."""
_BLOCK_FIELDS = (
    "n_head n_embd n_kv_head head_dim qk_norm norm norm_gain norm_first eps activation gated "
    "n_inner parallel bias qkv_bias positions rotary_dim"
).split()
"""Fields of ModelConfig that a block's code depends on."""
_INPUT_AND_OUTPUT_FIELDS = (
    "vocab_size block_size n_head n_embd head_dim embd_dim tied positions rope_theta rotary_dim "
    "rope_scaling rope_factor rope_low rope_high rope_original final_norm norm norm_gain eps bias"
).split()
"""The same for the code before the first block and after the last one."""
_PREFIXES = {"input": ("wte.", "proj_in.", "wpe."), "output": ("ln_f.", "proj_out.")}
"""Parameters that the code before and after the blocks needs: how their names start."""
_TOLERANCE = 0.05
"""Largest error that counts as rounding, relative to the logits. A mistake causes about 1."""


def library_paths(config: ModelConfig, dtype: str) -> dict[str, Path]:
    """Paths of the machine code for each part of a network, whether it exists or not.

    File names are digests of everything that the code depends on: what is compiled, with which
    compiler, for which processor and how many threads.
    """
    common = {"processor": _processor(), "threads": torch.get_num_threads(), "dtype": dtype}
    values = config.to_dict()
    parts = {
        "input": _INPUT_AND_OUTPUT_FIELDS,
        "block": _BLOCK_FIELDS,
        "output": _INPUT_AND_OUTPUT_FIELDS,
    }
    parts |= {"race": ["vocab_size"], "race_of_all": ["vocab_size"]}
    if not config.n_layer:
        del parts["block"]
    if config.vocab_size <= TOP:
        del parts["race_of_all"]
    return {
        part: code_path(part, ".so", _SOURCES, common | {name: values[name] for name in names})
        for part, names in parts.items()
    }


def _processor() -> str:
    """The properties of this processor for which a compiler generates code."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    fields = [line for line in lines if line.lower().startswith(("flags", "features", "vendor"))]
    # Of each field, the first processor's.
    found = {line.partition(":")[0]: line for line in reversed(fields)}
    return " ".join((platform.machine(), platform.processor(), *sorted(found.values())))


def is_intel() -> bool:
    """Whether this is a processor of Intel's."""
    return "GenuineIntel" in _processor()


def parameter_names(part: str, model: GPT) -> list[str]:
    """Names of the parameters that the code before ("input") or after ("output") blocks needs."""
    prefixes = _PREFIXES[part]
    if part == "output":
        prefixes += ("wte." if model.config.tied else "lm_head.",)
    return [name for name, _ in model.named_parameters() if name.startswith(prefixes)]


def streamed(module: nn.Module) -> dict[str, Tensor]:
    """Parameters by name, as compiled code reads them."""
    found = {name: weight.detach() for name, weight in module.named_parameters()}
    for name, child in module.named_modules():
        if isinstance(child, Matrix):
            found[f"{name}.weight"] = child.streamed.detach()
    return found


def block_arguments(block: Block) -> list[Tensor]:
    """The matrices of a block, then one vector: the scale of attention and all its vectors.

    The time of a call grows with the number of tensors, not with their size.
    """
    weights = list(streamed(block).values())
    matrices = [weight for weight in weights if weight.dim() > 1]
    vectors = [weight for weight in weights if weight.dim() == 1]
    return [*matrices, torch.cat([torch.tensor([block.attn.scale]), *vectors])]


def part_arguments(part: str, model: GPT) -> list[Tensor]:
    """The tensors of `parameter_names`. The input looks up single rows, so it reads plain bytes."""
    weights = streamed(model) if part == "output" else dict(model.named_parameters())
    return [weights[name].detach() for name in parameter_names(part, model)]


class CompiledStep:
    """Runs the network for one more token of one sequence, as `GPT.hidden` and `predict` do."""

    def __init__(self, model: GPT, dtype: str) -> None:
        """Raises RuntimeError if a library cannot be loaded."""
        runner = _runner()
        paths = library_paths(model.config, dtype)
        self._run: dict[str, Callable[[list[Tensor]], list[Tensor]]] = {
            part: runner(str(path), 1).run for part, path in paths.items()
        }
        self._weights = {part: part_arguments(part, model) for part in _PREFIXES}
        self._blocks = [block_arguments(cast(Block, block)) for block in model.h]
        self._id_and_position = array("q", (0, 0))
        self._input = torch.frombuffer(self._id_and_position, dtype=torch.long)
        """(2) the same memory as a tensor."""
        self._lengths = torch.zeros(model.config.block_size)
        """A slice of it passes the number of tokens to a block, which uses only its size."""
        self._last: tuple[Tensor, Prediction] | None = None
        """The hidden state that was computed last, and its prediction."""

    def hidden(self, token_id: int, cache: KVCache) -> Tensor:
        """→ hidden state (E). Afterwards the cache is one token longer."""
        self._id_and_position[0], self._id_and_position[1] = token_id, cache.length
        x, *rotation = self._run["input"]([self._input, *self._weights["input"]])  # (1, 1, C)
        memory = iter(cache.layer_tensors())
        length = self._lengths[: cache.length + 1]
        for weights in self._blocks:
            keys, values = next(memory), next(memory)
            (x,) = self._run["block"]([x, keys, values, length, *rotation, *weights])
        cache.advance(1)
        hidden, *prediction = self._run["output"]([x, *self._weights["output"]])  # (1, 1, E)
        self._last = hidden, Prediction(*prediction)
        return hidden.view(-1)

    def race(
        self, scores: Tensor, ids: Tensor, settings: Tensor, key: Tensor, all_scores: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As gpt.draw.race, for all tokens or for as many as a Prediction has looked up."""
        part = "race" if len(ids) <= TOP else "race_of_all"
        token, final = self._run[part]([scores, ids, settings, key, all_scores])
        return token, final

    def prediction(self, hidden: Tensor) -> Prediction | None:
        """For the hidden state (E) that was computed last; None for any other."""
        # `_last` keeps its memory alive, so no other tensor has the same address.
        if self._last is None or hidden.data_ptr() != self._last[0].data_ptr():
            return None
        return self._last[1]


def _runner() -> Any:
    """The class that loads machine code; None if this version of torch has none.

    It is an internal class of torch. To import torch._inductor would take a second.
    """
    return getattr(getattr(torch._C, "_aoti", None), "AOTIModelContainerRunnerCpu", None)


def _missing(config: ModelConfig, dtype: str) -> dict[str, Path]:
    """Those of `library_paths` that do not exist."""
    paths = library_paths(config, dtype)
    return {part: path for part, path in paths.items() if not path.exists()}


def _can_build(missing: dict[str, Path]) -> bool:
    return bool(compiler()) and not any(failure_note(path).exists() for path in missing.values())


def is_code_expected(config: ModelConfig, dtype: str, *, build: bool) -> bool:
    """Whether there is machine code for such a network, or a CpuBuild would build it.

    build: whether it may build.
    """
    missing = _missing(config, dtype)
    return _runner() is not None and (not missing or (build and _can_build(missing)))


class CpuBuild(Build):
    """The machine code for a context, see CompiledStep."""

    def __init__(self, context: Context, dtype: str) -> None:
        super().__init__()
        self._context, self._dtype = context, dtype

    def start(self, *, build: bool) -> None:
        """Install the code if it exists; else start to build it, if build is true and it can."""
        config = self._context.config
        missing = _missing(config, self._dtype)
        if not missing:
            self.install()
        elif not build:
            return
        elif not compiler():
            self.notice = zig_compiler.offer(self._context.model, cache_directory())
        elif _runner() is None:
            self.notice = _cannot_run("it has no AOTIModelContainerRunnerCpu")
        elif not _can_build(missing):
            self.notice = _build_failed(missing)
        else:
            request = {
                "config": config.to_dict(),
                "dtype": self._dtype,
                "threads": torch.get_num_threads(),
                "parts": {part: str(path) for part, path in missing.items()},
            }
            self.run("gpt.fast.cpu_compile", request, **_environment())

    @property
    def is_installed(self) -> bool:
        """Whether the context uses compiled code."""
        return self._context.step is not None

    def install(self) -> None:
        """Let the context use the code for single tokens, if it computes what the model does."""
        if missing := _missing(self._context.config, self._dtype):
            self.notice = _build_failed(missing)
            return
        try:
            step = CompiledStep(self._context.model, self._dtype)
            if _agrees(step, self._context.model):
                self._context.step = step
                mark_used(library_paths(self._context.config, self._dtype).values())
        except Exception as error:  # damaged, or another version of torch calls it differently
            self.notice = _cannot_run(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


def _environment() -> dict[str, str]:
    """Environment variables with which PyTorch builds code one file at a time, by our compiler."""
    threads = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
    program = compiler()
    if program is None or program != zig():
        return threads
    # It builds its C++ library once, which the cache keeps.
    return threads | {
        "CXX": str(zig_compiler.install(cache_directory())),
        "ZIG_GLOBAL_CACHE_DIR": str(cache_directory() / "zig"),
    }


def _cannot_run(why: str) -> str:
    return (
        f"this version of PyTorch ({torch.__version__}) cannot run the model's machine code "
        f"({why}); the model runs without it"
    )


def _build_failed(missing: dict[str, Path]) -> str:
    notes = [note for path in missing.values() if (note := failure_note(path)).exists()]
    reason = f" ({notes[0]} says why)" if notes else ""
    return f"the model's machine code could not be built{reason}; the model runs without it"


@torch.inference_mode()
def _agrees(step: CompiledStep, model: GPT) -> bool:
    """Whether both compute the same logits, except for rounding, and draw the same tokens."""
    caches = [model.new_cache() for _ in range(2)]
    for token_id in range(min(3, model.config.vocab_size, model.config.block_size)):
        ids = torch.tensor([[token_id]])
        expected = model.logits(model.hidden(ids, caches[0]))[0, 0]
        found = step.prediction(step.hidden(token_id, caches[1]))
        if found is None:
            return False
        for top_k in (len(found.top_ids[0]) - 1, 0):
            sampling = Sampling(top_k=top_k, seed=token_id)
            eager, compiled = (choose(found, sampling, [], 0, race) for race in (None, step.race))
            if eager.token_id != compiled.token_id:
                return False
        expected, logits = (each - each.mean() for each in (expected, found.logits[0]))  # (V)
        if not (logits - expected).norm() <= _TOLERANCE * expected.norm():
            return False
    return True
