"""The compiler in the package ziglang, and clang's OpenMP calls in terms of GCC's."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt.compiler import compiler, zig
from gpt.config import ModelConfig
from gpt.fast import zig_compiler
from gpt.model import GPT

SOURCE = Path(zig_compiler.__file__).parent / "openmp" / "kmpc.cpp"
COMPILER = compiler()
needs_gcc = pytest.mark.skipif(
    COMPILER in (None, zig()), reason="this machine has no C++ compiler of its own"
)
Long = ctypes.c_longlong
Region = ctypes.CFUNCTYPE(
    None, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int), ctypes.c_void_p
)


def test_openmp_is_added_only_where_it_is_linked() -> None:
    link = zig_compiler.zig_arguments(["a.o", "-shared", "-lgomp", "-o", "a.so"], "/torch/libgomp")
    assert link[0] == "c++"
    assert "-lgomp" not in link
    assert link[-3:] == [str(SOURCE), "/torch/libgomp", "-Wl,-s"]
    alone = zig_compiler.zig_arguments(["-c", "a.cpp", "-lgomp", "-fopenmp"], "/torch/libgomp")
    assert not {str(SOURCE), "/torch/libgomp"} & set(alone)
    assert alone[-3:] == ["-c", "a.cpp", "-fopenmp"]


def test_pytorch_takes_the_script_for_clang(tmp_path: Path) -> None:
    from torch._inductor.cpp_builder import _is_clang

    script = zig_compiler.install(tmp_path / "new")
    assert _is_clang(str(script))


@pytest.mark.skipif(zig() is not None, reason="ziglang is installed")
def test_without_the_package_the_script_says_so(tmp_path: Path) -> None:
    script = zig_compiler.install(tmp_path)
    done = subprocess.run([script, "--version"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "the package ziglang is not installed" in done.stderr


def test_a_compiler_is_offered_once_and_for_large_models_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    small = GPT(ModelConfig(vocab_size=8, block_size=8, n_layer=1, n_head=1, n_embd=8))
    assert zig_compiler.offer(small, tmp_path / "home") == ""
    with torch.device("meta"):
        large = GPT(ModelConfig(vocab_size=50257, block_size=8, n_layer=1, n_head=1, n_embd=512))
    assert "-m pip install ziglang" in zig_compiler.offer(large, tmp_path / "home")
    assert zig_compiler.offer(large, tmp_path / "home") == ""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The calls, built by this machine's own compiler."""
    out = tmp_path_factory.mktemp("openmp") / "kmpc.so"
    command = [str(COMPILER), "-shared", "-fPIC", "-fopenmp", "-std=c++20", str(SOURCE)]
    subprocess.run([*command, "-o", out], check=True, timeout=300)
    return ctypes.CDLL(str(out))


def in_parallel(library: ctypes.CDLL, threads: int, work: Callable[[int], None]) -> None:
    """Run work(thread) in that many threads, as code from clang would."""
    region = Region(lambda thread, bound, shared: work(thread[0]))
    library.__kmpc_push_num_threads(None, 0, threads)
    library.__kmpc_fork_call(None, 1, region, None)


@needs_gcc
@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    threads=st.integers(1, 5),
    first=st.integers(-20, 20),
    count=st.integers(0, 60),
    step=st.sampled_from([1, 2, 7]),
    chunk=st.sampled_from([0, 1, 3, 16]),
)
def test_threads_share_a_loop_without_gaps(
    library: ctypes.CDLL, threads: int, first: int, count: int, step: int, chunk: int
) -> None:
    last = first + (count - 1) * step
    done: list[int] = []
    ends = []

    def work(thread: int) -> None:
        is_last, stride = ctypes.c_int(0), Long(0)
        lower, upper = Long(first), Long(last)
        library.__kmpc_for_static_init_8(
            None,
            thread,
            33 if chunk else 34,
            *map(ctypes.byref, (is_last, lower, upper, stride)),
            Long(step),
            Long(chunk),
        )
        start, stop = lower.value, upper.value
        while start <= last:  # clang's loop over the chunks of a thread
            done.extend(range(start, min(stop, last) + 1, step))
            if not chunk:
                break
            start, stop = start + stride.value, stop + stride.value
        ends.append(is_last.value)

    in_parallel(library, threads, work)
    assert sorted(done) == list(range(first, last + 1, step))
    assert len(ends) == threads
    assert sum(ends) == (count > 0)
