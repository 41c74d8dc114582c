"""The step of one token as machine code that gpt/fast/cpu_compile.py built for this machine.

Decoding calls some hundred operators a token and streams every weight from memory. Code that
was compiled for one block does both better; it is kept in the user's cache directory.
"""

from __future__ import annotations

import platform
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from gpt.cache import KVCache
from gpt.config import ModelConfig
from gpt.context import Context
from gpt.device import compiler
from gpt.draw import choose
from gpt.fast.build import Build, failed, place, used
from gpt.model import GPT, Block
from gpt.prediction import TOP, Prediction
from gpt.settings import Sampling

_SOURCES = (
    "model.py prediction.py sampling.py draw.py weights/quantize.py fast/cpu_compile.py "
    "fast/cpu_step.py"
).split()
_OF_BLOCK = (
    "n_head n_embd norm norm_gain norm_first eps activation gated n_inner bias positions".split()
)
_OF_ENDS = (
    "vocab_size block_size n_head n_embd embd_dim tied positions rope_theta "
    "final_norm norm norm_gain eps bias"
).split()
_USED = {"input": ("wte.", "proj_in.", "wpe."), "output": ("ln_f.", "proj_out.")}
"""How the names of the parameters begin that the ends of a network need."""
_TOLERANCE = 0.05
"""Relative to the logits, what may be rounding; a mistake is a difference of about 1."""


def libraries(config: ModelConfig, dtype: str) -> dict[str, Path]:
    """Where the machine code for each part of a network is, or would be.

    The names are digests of all that the code depends on: what is compiled, with which
    compiler, for which processor and how many threads.
    """
    common = {"processor": _processor(), "threads": torch.get_num_threads(), "dtype": dtype}
    values = config.to_dict()
    parts = {"input": _OF_ENDS, "block": _OF_BLOCK, "output": _OF_ENDS}
    parts |= {"race": ["vocab_size"], "race_of_all": ["vocab_size"]}
    if not config.n_layer:
        del parts["block"]
    if config.vocab_size <= TOP:
        del parts["race_of_all"]
    return {
        part: place(part, ".so", _SOURCES, {**common, **{name: values[name] for name in names}})
        for part, names in parts.items()
    }


def _processor() -> str:
    """What a compiler asks for when it compiles for this machine alone."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return f"{platform.machine()} {platform.processor()} {flags}"


def used_by(part: str, model: GPT) -> list[str]:
    """Names of the parameters that an end of the network needs."""
    used = _USED[part]
    if part == "output":
        used += ("wte." if model.config.tied else "lm_head.",)
    return [name for name, _ in model.named_parameters() if name.startswith(used)]


def arguments(block: Block) -> list[Tensor]:
    """The matrices of a block, and the rest in one vector, the scale of attention first.

    What a call takes goes with the number of tensors, not with their size.
    """
    weights = [weight.detach() for weight in block.parameters()]
    others = [torch.tensor([block.attn.scale]), *(each for each in weights if each.dim() == 1)]
    return [*(each for each in weights if each.dim() > 1), torch.cat(others)]


class CompiledStep:
    """The network for one more token of one sequence: what `GPT.hidden` and `predict` compute."""

    def __init__(self, model: GPT, dtype: str) -> None:
        """Raises RuntimeError where a library cannot be loaded."""
        runner = _runner()
        paths = libraries(model.config, dtype)
        self._run: dict[str, Callable[[list[Tensor]], list[Tensor]]] = {
            part: runner(str(path), 1).run for part, path in paths.items()
        }
        self._ends = {
            part: [model.get_parameter(n) for n in used_by(part, model)] for part in _USED
        }
        self._layers = [arguments(cast(Block, block)) for block in model.h]
        self._where = array("q", (0, 0))
        self._given = torch.frombuffer(self._where, dtype=torch.long)
        """The same memory: a token's id and its position."""
        self._counted = torch.zeros(model.config.block_size)
        """As many as there are tokens are given to a block, which looks at nothing but how many."""
        self._last: tuple[Tensor, Prediction] | None = None
        """The hidden state that was computed last, and what it says."""

    def hidden(self, token_id: int, cache: KVCache) -> Tensor:
        """→ (E); the cache is one token longer afterwards."""
        self._where[0], self._where[1] = token_id, cache.length
        x, *rotation = self._run["input"]([self._given, *self._ends["input"]])
        slots = iter(cache.slots())
        counted = self._counted[: cache.length + 1]
        for weights in self._layers:
            (x,) = self._run["block"]([x, next(slots), next(slots), counted, *rotation, *weights])
        cache.advance(1)
        hidden, *prediction = self._run["output"]([x, *self._ends["output"]])
        self._last = hidden, Prediction(*prediction)
        return hidden.view(-1)

    def race(
        self, scores: Tensor, ids: Tensor, numbers: Tensor, thrown: Tensor, everyone: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As in gpt/draw.py, for all tokens or as many as a Prediction has looked up."""
        part = "race" if len(ids) <= TOP else "race_of_all"
        token, final = self._run[part]([scores, ids, numbers, thrown, everyone])
        return token, final

    def prediction(self, hidden: Tensor) -> Prediction | None:
        """Of the hidden state (E) that was computed last; None for any other."""
        # `_last` holds its memory, so no other tensor is there.
        if self._last is None or hidden.data_ptr() != self._last[0].data_ptr():
            return None
        return self._last[1]


def _runner() -> Any:
    """What loads machine code, or None in a torch that has no such thing.

    It is an internal of torch, taken by itself: torch._inductor would take a second to import.
    """
    return getattr(getattr(torch._C, "_aoti", None), "AOTIModelContainerRunnerCpu", None)


def _missing(config: ModelConfig, dtype: str) -> dict[str, Path]:
    """Those of `libraries` that are not there."""
    paths = libraries(config, dtype)
    return {part: path for part, path in paths.items() if not path.exists()}


def _can_build(missing: dict[str, Path]) -> bool:
    return bool(compiler()) and not any(failed(path).exists() for path in missing.values())


def is_coming(config: ModelConfig, dtype: str, *, build: bool) -> bool:
    """Whether a Compilation has code for such a network, or would build it."""
    missing = _missing(config, dtype)
    return _runner() is not None and (not missing or (build and _can_build(missing)))


class Compilation(Build):
    """The compiled step of a context."""

    def __init__(self, context: Context, dtype: str) -> None:
        super().__init__()
        self._context, self._dtype = context, dtype

    def start(self, *, build: bool) -> None:
        """Install the code if it is there; else start to build it, if wanted and possible."""
        config = self._context.config
        missing = _missing(config, self._dtype)
        if not missing:
            self.install()
        elif not build or not compiler():
            return
        elif _runner() is None:
            self.notice = _cannot("it has no AOTIModelContainerRunnerCpu")
        elif not _can_build(missing):
            self.notice = _failed(missing)
        else:
            request = {
                "config": config.to_dict(),
                "dtype": self._dtype,
                "threads": torch.get_num_threads(),
                "parts": {part: str(path) for part, path in missing.items()},
            }
            self.run("gpt.fast.cpu_compile", request, TORCHINDUCTOR_COMPILE_THREADS="1")

    @property
    def is_installed(self) -> bool:
        """Whether the context uses compiled code."""
        return self._context.step is not None

    def install(self) -> None:
        """Let the context use the code for single tokens, if it does what the model does."""
        if missing := _missing(self._context.config, self._dtype):
            self.notice = _failed(missing)
            return
        try:
            step = CompiledStep(self._context.model, self._dtype)
            if _agrees(step, self._context.model):
                self._context.step = step
                used(libraries(self._context.config, self._dtype).values())
        except Exception as error:  # damaged, or called otherwise by another version of torch
            self.notice = _cannot(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")


def _cannot(why: str) -> str:
    return (
        f"this version of PyTorch ({torch.__version__}) cannot run the model's machine code "
        f"({why}); the model runs without it"
    )


def _failed(missing: dict[str, Path]) -> str:
    notes = [note for path in missing.values() if (note := failed(path)).exists()]
    where = f" ({notes[0]} says why)" if notes else ""
    return f"the model's machine code could not be built{where}; the model runs without it"


@torch.inference_mode()
def _agrees(step: CompiledStep, model: GPT) -> bool:
    """Whether both give the same logits, but for rounding, behind a few tokens."""
    caches = [model.new_cache() for _ in range(2)]
    for token_id in range(min(3, model.config.vocab_size, model.config.block_size)):
        ids = torch.tensor([[token_id]])
        expected = model.logits(model.hidden(ids, caches[0]))[0, 0]
        found = step.prediction(step.hidden(token_id, caches[1]))
        if found is None:
            return False
        for top_k in (len(found.top_ids[0]) - 1, 0):
            sampling = Sampling(top_k=top_k, seed=token_id)
            one, same = (choose(found, sampling, [], 0, each) for each in (None, step.race))
            if one.token_id != same.token_id:
                return False
        expected, logits = (each - each.mean() for each in (expected, found.logits[0]))
        if not (logits - expected).norm() <= _TOLERANCE * expected.norm():
            return False
    return True
