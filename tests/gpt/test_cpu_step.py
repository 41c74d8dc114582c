"""Compiled code against the eager network: the same numbers, and never in the way."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs
import pytest
import torch
from torch._inductor.utils import fresh_cache, run_and_get_cpp_code

from gpt.checkpoint import Checkpoint, load
from gpt.context import Context
from gpt.draw import choose
from gpt.fast import build, cpu_compile, cpu_step
from gpt.fast.cpu_compile import asking_ahead
from gpt.fast.cpu_step import Compilation, CompiledStep, libraries
from gpt.generate import Limits, generate
from gpt.loaded import RunOptions, load_model
from gpt.model import GPT
from gpt.prediction import TOP, Prediction
from gpt.sampling import distribution, draw
from gpt.settings import Sampling
from gpt.weights.quantize import product
from tests.conftest import context_of, random_model
from tests.gpt.test_engine import Client
from tests.gpt.test_quantize import VARIANTS, stored

needs_compiler = pytest.mark.skipif(
    cpu_step.compiler() is None, reason="this machine has no C++ compiler"
)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is built once is kept for all tests here."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def home(kept: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GPT_TUI_HOME", str(kept))
    return kept


def compilation_of(context: Context, dtype: str, *, build: bool) -> Compilation:
    found = Compilation(context, dtype)
    found.start(build=build)
    return found


def network(variant: str, dtype: str) -> GPT:
    """A tiny random network."""
    # One has so large a vocabulary, and not by four, that the best tokens are looked for in parts.
    size = 8203 if variant == "gpt2" else 29
    model = random_model(n_layer=3, **{"vocab_size": size, **VARIANTS[variant]})
    model.wte.weight.mul_(0.3)
    return model if dtype == "float32" else stored(model, dtype)


@needs_compiler
@pytest.mark.timeout(300)
def test_loops_ask_for_the_numbers_of_matrices_ahead() -> None:
    weight = torch.randint(-127, 128, (64, 160), dtype=torch.int8)
    x = torch.randn(160)

    def code() -> str:
        torch.compiler.reset()
        with fresh_cache():
            y, source = run_and_get_cpp_code(torch.compile(product), x, weight, torch.ones(64))
        torch.testing.assert_close(y, x @ weight.float().T, rtol=1e-4, atol=1e-3)
        return str(source)

    assert "__builtin_prefetch" not in code()
    with asking_ahead():
        lines = code().splitlines()
    loads = [line for line in lines if "<int8_t>::loadu" in line]
    asked = [line for line in lines if "__builtin_prefetch" in line]
    assert len(loads) == len(asked) > 0
    assert "2048L + x1" in asked[0]


@needs_compiler
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("variant", "dtype"), [("gpt2", "float32"), ("ours", "float16"), ("opt", "int8")]
)
def test_compiled_code_computes_what_the_network_does(
    variant: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.cache._FIRST_CAPACITY", 4)  # so that it grows again and again
    model, same = network(variant, dtype), network(variant, dtype)
    context = context_of(same)
    compilation = compilation_of(context, dtype, build=True)
    assert not compilation.is_installed
    compilation.wait()
    assert compilation.is_installed
    assert compilation.poll()
    ids = torch.randint(29, (20,)).tolist()
    reference = context_of(model)
    bound = {"int8": 2e-3, "float16": 2e-2, "float32": 1e-4}[dtype]
    # A prompt at once, tokens one by one, a look back, others in their place.
    ends = [*range(6, 13), 8]
    for path in (*(ids[:end] for end in ends), *([*ids[:8], *ids[12:n]] for n in range(13, 21))):
        exact, found = (each.predict(each.read(path)[-1]) for each in (reference, context))
        assert exact.logits.shape == found.logits.shape
        assert (exact.logprobs - found.logprobs).abs().max() < bound
        assert (exact.entropy - found.entropy).abs() < bound
        torch.testing.assert_close(found.total, found.logits.sum(-1), atol=1e-3, rtol=1e-4)
        assert torch.equal(found.logprobs[0, found.top_ids[0]], found.top_logprobs[0])
        best = found.logprobs.sort(descending=True).values[:, :TOP]
        assert torch.equal(found.top_logprobs, best)
        for sampling in (
            Sampling(temperature=0.7, seed=3),
            Sampling(top_k=20),
            Sampling(top_p=0.9),
        ):
            assert context.step
            drawn = choose(found, sampling, path, len(path), context.step.race)
            final = distribution(found.logits[0], sampling, path)[-1].logprobs
            assert drawn.token_id == draw(final, sampling.seed, len(path))
            assert drawn.logprob(drawn.token_id) == pytest.approx(
                final[drawn.token_id].item(), abs=1e-4
            )


@needs_compiler
@pytest.mark.timeout(300)
def test_a_text_that_is_drawn_by_compiled_code_scores_as_one_that_is_read(
    tiny: Checkpoint,
) -> None:
    context = tiny.new_context()
    compilation = compilation_of(context, "float32", build=True)
    compilation.wait()
    assert compilation.is_installed
    steps = list(generate(context, [3, 1], Sampling(seed=4), Limits(20)))
    ids = [3, 1, *(step.token_id for step in steps)]
    logprobs = tiny.model(torch.tensor([ids])).log_softmax(-1)[0]
    for step in steps:
        exact = logprobs[step.position - 1]
        assert step.logprob == pytest.approx(exact[step.token_id].item(), abs=1e-4)
        assert step.candidates[0].logprob == pytest.approx(exact.max().item(), abs=1e-4)
    # States read before are asked for their logits again, as the inspector does.
    torch.testing.assert_close(
        context.predict(context.hidden[4]).logprobs[0], logprobs[4], atol=1e-4, rtol=0
    )
    # Without building: what is there is found.
    again = context_of(random_model())
    assert compilation_of(again, "float32", build=False).is_installed


@needs_compiler
@pytest.mark.timeout(300)
def test_the_engine_builds_in_the_background_and_says_what_drew_the_tokens(
    tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT_TUI_HOME", str(tmp_path))  # nothing is built there
    client = Client()
    client.until("hello")
    client.send({"op": "load", "model": str(tiny_directory), "compile": "auto", "threads": 1})
    client.until("loaded")
    request = {"op": "generate", "text": "to be", "max_new_tokens": 12, "sampling": {"seed": 3}}
    found = []
    while not found or not found[-1][-1]["compiled"]:
        client.send(request)
        found.append(client.until("done", "error"))
    assert not found[0][-1]["compiled"]  # the first tokens do not wait
    texts = [
        "".join(step["text"] for line in lines for step in line.get("steps", ())) for lines in found
    ]
    assert len(set(texts)) == 1
    client.process.stdin.close()  # type: ignore[union-attr]
    assert client.process.wait(20) == 0


@needs_compiler
@pytest.mark.timeout(300)
def test_code_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    compilation_of(context_of(model), "float32", build=True).wait()
    right = CompiledStep.prediction

    def wrong(self: CompiledStep, hidden: torch.Tensor) -> Prediction | None:
        found = right(self, hidden)
        return None if found is None else found._replace(logits=found.logits.flip(-1))

    monkeypatch.setattr(CompiledStep, "prediction", wrong)
    assert not compilation_of(context_of(random_model()), "float32", build=False).is_installed


def test_without_code_the_network_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = context_of(network("gpt2", "bfloat16"))
    compilation = compilation_of(model, "bfloat16", build=False)
    assert not compilation.poll()
    monkeypatch.setattr(cpu_step, "compiler", lambda: None)
    compilation = compilation_of(model, "bfloat16", build=True)
    compilation.wait()
    assert not compilation.poll()
    assert model.step is None


@pytest.mark.parametrize("content", [b"", b"not a library"])
def test_a_damaged_library_is_not_used(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Elsewhere, for a library that is in use may not be written to.
    monkeypatch.setenv("GPT_TUI_HOME", str(tmp_path))
    model = random_model()
    for path in libraries(model.config, "float32").values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert not compilation_of(context_of(model), "float32", build=False).is_installed


@needs_compiler
def test_a_build_that_fails_leaves_a_note_and_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    model = random_model(n_embd=48)
    monkeypatch.setenv("CXX", "false")
    compilation_of(context_of(model), "float32", build=True).wait()
    notes = [build.failed(path) for path in libraries(model.config, "float32").values()]
    assert [note.exists() for note in notes] == [True, False, False, False]  # the first one ends it
    assert "Error" in notes[0].read_text()
    started: list[Any] = []
    monkeypatch.setattr(build.subprocess, "Popen", started.append)
    assert not compilation_of(context_of(model), "float32", build=True).poll()
    assert started == []


@needs_compiler
def test_a_build_can_be_stopped_and_leaves_no_library(home: Path) -> None:
    model = random_model(n_embd=64)
    compilation = compilation_of(context_of(model), "float32", build=True)
    process = compilation._process
    assert process
    while not list((home / "compiled").glob("build-*")):  # until it has begun to write
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"it ended by itself, with status {process.wait(0.05)}")
    compilation.stop()
    assert not compilation.poll()
    paths = libraries(model.config, "float32")
    assert not any(
        path.exists() for part, path in paths.items() if "race" not in part
    )  # any model's


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", ["_aoti", "_aoti.AOTIModelContainerRunnerCpu"])
@pytest.mark.parametrize("built", [True, False])
def test_a_torch_that_cannot_run_machine_code_says_so_once(
    name: str,
    built: bool,
    tiny_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GPT_TUI_HOME", str(tmp_path))
    monkeypatch.setattr(cpu_step, "compiler", lambda: "c++")
    config = load(tiny_directory).model.config
    for path in libraries(config, "float32").values() if built else ():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"code")
    if not built:  # nothing is there that could be missed
        assert load_model(tiny_directory, RunOptions("cpu", "float32", threads=1)).notice == ""
    where, _, last = name.rpartition(".")
    monkeypatch.delattr(getattr(torch._C, where) if where else torch._C, last)
    ready = load_model(tiny_directory, RunOptions("cpu", "float32", threads=1, compile="auto"))
    assert "this version of PyTorch" in ready.notice
    assert torch.__version__ in ready.notice
    assert not ready.is_compiled()
    drawn = generate(ready.context, [1], Sampling(), Limits(3))
    assert len(list(drawn)) == 3


class Changed:
    """What loads machine code, in a torch that calls it otherwise."""

    def __init__(self, path: str, n: int) -> None:
        pass

    def run(self, tensors: Any, stream: Any, more: Any) -> Any:
        raise AssertionError


@pytest.mark.usefixtures("one_thread")
def test_machine_code_that_is_called_otherwise_is_not_used(
    tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT_TUI_HOME", str(tmp_path))
    for path in libraries(load(tiny_directory).model.config, "float32").values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"code")
    monkeypatch.setattr(torch._C._aoti, "AOTIModelContainerRunnerCpu", Changed)
    ready = load_model(tiny_directory, RunOptions("cpu", "float32", threads=1))
    assert "TypeError" in ready.notice
    assert "\n" not in ready.notice
    assert not ready.is_compiled()


INTERNALS = {
    "torch._inductor": "aoti_compile_and_package",
    "torch._inductor.codegen.cpp": "CppVecKernel",
    "torch._inductor.codegen.cpp_utils": "cexpr_index",
    "torch._inductor.virtualized": "V",
}


@pytest.mark.parametrize("module", INTERNALS)
def test_a_torch_without_these_internals_builds_plainer_code_or_says_why_none(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(importlib.import_module(module), INTERNALS[module])
    library = tmp_path / "race.so"
    request = {
        "config": random_model().config.to_dict(),
        "dtype": "float32",
        "threads": 1,
        "parts": {"race": str(library)},
    }
    monkeypatch.setattr(sys, "argv", ["inductor", json.dumps(request)])
    monkeypatch.setattr(os, "nice", lambda n: n)
    if module == "torch._inductor":
        with pytest.raises(ImportError):
            cpu_compile.main()
        assert "aoti_compile_and_package" in build.failed(library).read_text()
    else:
        with asking_ahead():
            pass


@needs_compiler
@pytest.mark.usefixtures("one_thread")
def test_a_build_that_failed_is_named_when_code_is_wanted(
    tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT_TUI_HOME", str(tmp_path))
    paths = libraries(load(tiny_directory).model.config, "float32")
    note = build.failed(paths["block"])
    note.parent.mkdir(parents=True)
    note.write_text("reason")
    wanted = load_model(tiny_directory, RunOptions("cpu", "float32", threads=1, compile="auto"))
    assert str(note) in wanted.notice
    assert load_model(tiny_directory, RunOptions("cpu", "float32", threads=1)).notice == ""


def test_each_kind_of_code_has_a_name_of_its_own() -> None:
    config = random_model().config
    names = [libraries(config, dtype)["block"] for dtype in ("float32", "int8")]
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    names.append(libraries(config, "float32")["block"])
    torch.set_num_threads(before)
    names += [libraries(random_model(n_head=4).config, "float32")["block"]]
    assert len(set(names)) == 4
    # What a layer's code does not depend on.
    deeper = random_model(n_layer=5, vocab_size=31).config
    assert libraries(deeper, "float32")["block"] == names[0]
    assert libraries(deeper, "float32")["output"] != libraries(config, "float32")["output"]


@needs_compiler
@pytest.mark.timeout(300)
def test_code_that_nobody_used_for_long_is_swept(home: Path) -> None:
    model = network("gpt2", "float32")
    compilation = compilation_of(context_of(model), "float32", build=True)
    compilation.wait()
    mine = list(libraries(model.config, "float32").values())
    cache = home / "compiled"
    killed, going_on = cache / "build-killed", cache / "build-going-on"
    old, note, young = cache / "block-old.so", cache / "old.failed.txt", cache / "block-young.so"
    for directory in (killed, going_on):
        directory.mkdir()
    for path in (old, note, young):
        path.touch()
    for age, paths in ((61 * 24 * 3600, [*mine, old, note]), (3700, [killed])):
        for path in paths:
            os.utime(path, (time.time() - age,) * 2)
    compilation.install()  # it is used again
    build.sweep(cache)
    assert not any(path.exists() for path in (old, note, killed))
    assert all(path.exists() for path in (*mine, young, going_on))


def test_it_is_kept_in_the_cache_directory_of_the_platform(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GPT_TUI_HOME")
    assert build.cache_directory() == platformdirs.user_cache_path("gpt-tui") / "compiled"
