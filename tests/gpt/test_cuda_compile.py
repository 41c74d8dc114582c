"""Compiled code for CUDA graphs. On a CPU, the compiler writes C++ instead of Triton."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpt.checkpoint import Checkpoint
from gpt.compiler import compiler
from gpt.context import Context
from gpt.fast.cuda_compile import CudaBuild
from gpt.fast.cuda_graph import Graphs
from gpt.generate import Limits, generate
from gpt.settings import Sampling
from tests.conftest import random_model
from tests.gpt.test_cuda_graph import assert_same, graphs_of, short  # noqa: F401
from tests.gpt.test_quantize import VARIANTS

needs_compiler = pytest.mark.skipif(compiler() is None, reason="this machine has no C++ compiler")
SAMPLING = Sampling(temperature=0.9, top_k=20, top_p=0.9, seed=3)


def with_graphs(tiny: Checkpoint, **changes: Any) -> Context:
    context = replace(tiny, model=random_model(**changes)).new_context()
    context.graphs = Graphs(context)
    return context


def cuda_build_of(context: Context, *, build: bool) -> CudaBuild:
    found = CudaBuild(graphs_of(context))
    found.start(build=build)
    return found


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("variant", ["ours", "llama", "qwen", "neox"])
def test_compiled_code_is_built_in_the_background_and_draws_the_same_text(
    variant: str, tiny: Checkpoint, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(home / "caches"))
    context = with_graphs(tiny, n_layer=3, **VARIANTS[variant])
    expected = list(generate(context, [3, 1], SAMPLING, Limits(30)))
    build = cuda_build_of(context, build=True)
    assert not build.poll()  # it has just started
    build.wait()
    assert build.poll()
    for _ in range(2):
        context.truncate(0)
        assert_same(list(generate(context, [3, 1], SAMPLING, Limits(30))), expected)
        assert graphs_of(context).is_compiled
        assert [size for size, _ in graphs_of(context)._graphs] == [8, 16, 32]
    # The next program finds the caches filled, for any number of layers.
    other = with_graphs(tiny, n_layer=2, **VARIANTS[variant])
    assert cuda_build_of(other, build=True).is_installed
    assert not cuda_build_of(other, build=False)._process


@pytest.mark.slow
@needs_compiler
def test_a_build_that_fails_leaves_plain_graphs_and_a_note(
    tiny: Checkpoint, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(home / "caches"))
    context = with_graphs(tiny, n_embd=24)
    build = cuda_build_of(context, build=True)
    build.wait()
    assert not build.poll()
    (note,) = (home / "compiled").glob("fused-*.failed.txt")
    assert "inductor" in note.read_text()
    assert len(list(generate(context, [3], SAMPLING, Limits(9)))) == 9
    assert graphs_of(context)._graphs
    started: list[Any] = []
    monkeypatch.setattr(subprocess, "Popen", started.append)
    assert not cuda_build_of(context, build=True).poll()
    assert started == []


def test_nothing_is_built_unasked(tiny: Checkpoint, home: Path) -> None:
    context = with_graphs(tiny)
    assert not cuda_build_of(context, build=False).poll()
    assert not (home / "compiled").exists()
