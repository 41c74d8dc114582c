"""Machine code for a network on the CPU: whether it exists, building it, and checking it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from gpt.compiler import compiler, zig
from gpt.config import ModelConfig
from gpt.context import Context, Continuations
from gpt.draw import choose
from gpt.fast import zig_compiler
from gpt.fast.build import Build, cache_directory, failure_note, mark_used
from gpt.fast.cpu_step import CompiledStep, batch_paths, library_paths, runner
from gpt.model import GPT
from gpt.settings import Sampling
from gpt.weights.quantize import SmallGPT

_TOLERANCE = 0.05
"""Largest error that counts as rounding, relative to the logits. A mistake causes about 1."""


def _missing(paths: dict[str, Path]) -> dict[str, Path]:
    """Those that do not exist."""
    return {part: path for part, path in paths.items() if not path.exists()}


def _notes(missing: dict[str, Path]) -> list[Path]:
    """The files that say why some could not be built."""
    return [note for path in missing.values() if (note := failure_note(path)).exists()]


def _can_build(missing: dict[str, Path]) -> bool:
    return bool(compiler()) and not _notes(missing)


def is_code_expected(config: ModelConfig, dtype: str, *, build: bool) -> bool:
    """Whether there is machine code for such a network, or a CpuBuild would build it.

    build: whether it may build.
    """
    missing = _missing(library_paths(config, dtype))
    return runner() is not None and (not missing or (build and _can_build(missing)))


class CpuBuild(Build):
    """The machine code for a context, see CompiledStep."""

    def __init__(self, context: Context, dtype: str) -> None:
        super().__init__()
        self._context, self._dtype = context, dtype
        self._may_build = False

    def start(self, *, build: bool) -> None:
        """Install the code if it exists; else start to build it, if build is true and it can."""
        self._may_build = build
        missing = _missing(library_paths(self._context.config, self._dtype))
        if not missing:
            self.install()
        elif not build:
            return
        elif not compiler():
            self.notice = zig_compiler.offer(self._context.model, cache_directory())
        elif runner() is None:
            self.notice = _cannot_run("it has no AOTIModelContainerRunnerCpu")
        elif not _can_build(missing):
            self.notice = _build_failed(missing)
        else:
            self._build(missing)

    def want_branches(self) -> None:
        """Start to build the code for several branches, which most people never draw."""
        missing = _missing(batch_paths(self._context.config, self._dtype))
        wanted = self._may_build and missing and not self.is_running
        if wanted and self.is_installed and _can_build(missing):
            self._build(missing)

    def _build(self, missing: dict[str, Path]) -> None:
        request = {
            "config": self._context.config.to_dict(),
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
        """Let the context use the code that exists, if it computes what the model does."""
        context = self._context
        paths = library_paths(context.config, self._dtype)
        if missing := _missing(paths):
            self.notice = _build_failed(missing)
            return
        try:
            step = CompiledStep(context.model, self._dtype, self.want_branches)
            if not _agrees(step, context.model):
                self.notice = _cannot_run("its numbers are not the model's")
                return
            step.has_batch = step.has_batch and _batch_agrees(step, context)
        except Exception as error:  # damaged, or another version of torch calls it differently
            self.notice = _cannot_run(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
            return
        context.step = step
        if isinstance(context.model, SmallGPT):
            context.model.rounds_states = False
        mark_used(paths.values())
        batch = batch_paths(context.config, self._dtype)
        mark_used(batch.values())
        if self._may_build and _notes(missing := _missing(batch)):
            self.notice = _build_failed(missing, "for several branches ")


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


def _build_failed(missing: dict[str, Path], purpose: str = "") -> str:
    """purpose: what the code is for, followed by a space; empty for drawing a single text."""
    notes = _notes(missing)
    reason = f" ({notes[0]} says why)" if notes else ""
    code = f"the model's machine code {purpose}could not be built{reason}"
    return f"{code}; the model runs without it"


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
        if not _are_close(found.logits[0], expected):
            return False
    return True


@torch.inference_mode()
def _batch_agrees(step: CompiledStep, context: Context) -> bool:
    """Whether both compute the same logits for several branches, except for rounding."""
    n_ids, n_read = context.config.vocab_size, min(2, context.config.block_size - 1)
    scratch = Context(context.model, context.tokenizer)
    scratch.read([0])
    found: list[Tensor] = []
    for scratch.step in (None, step):
        tree, rows = Continuations(scratch, 1), [0, 0, 0]
        for start in range(n_read):
            states = tree.read(rows, [[(start + i) % n_ids] for i in range(len(rows))])
            found += scratch.predict(*(each[-1] for each in states)).logits
            rows = [2, 0]
    half = len(found) // 2
    return all(map(_are_close, found[half:], found[:half]))


def _are_close(logits: Tensor, expected: Tensor) -> bool:
    """Whether logits (V) differ from the expected ones only by rounding, or by a constant."""
    logits, expected = (each - each.mean() for each in (logits, expected))
    return bool((logits - expected).norm() <= _TOLERANCE * expected.norm())
