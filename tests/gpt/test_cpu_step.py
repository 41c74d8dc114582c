"""Machine code computes what the eager network does, and nothing breaks without it."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import platformdirs
import pytest
import torch
from torch._inductor.utils import fresh_cache, run_and_get_cpp_code

from gpt.checkpoint import Checkpoint, load
from gpt.compiler import compiler
from gpt.config import ModelConfig
from gpt.context import Context, Continuations
from gpt.draw import choose
from gpt.fast import build, cpu_compile, cpu_step
from gpt.fast.cpu_build import CpuBuild
from gpt.fast.cpu_step import ROWS, CompiledStep, batch_paths, library_paths
from gpt.fast.inductor import prefetching, teach_dot4
from gpt.generate import Limits, generate
from gpt.loaded import RunOptions, load_model
from gpt.model import GPT
from gpt.prediction import TOP, Prediction
from gpt.sampling import distribution, draw
from gpt.settings import Sampling
from gpt.weights import words
from gpt.weights.products import product
from gpt.weights.quantize import Matrix
from tests.conftest import context_of, random_model
from tests.gpt.test_engine import Client
from tests.gpt.test_quantize import VARIANTS, matrix_of, numbers, stored

needs_compiler = pytest.mark.skipif(compiler() is None, reason="this machine has no C++ compiler")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home directory for all tests here, so that code is built once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def home(kept: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GPT_TUI_HOME", str(kept))
    return kept


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Code for one thread has no parallel loops, and `make test` allows one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def cpu_build_of(context: Context, dtype: str, *, build: bool) -> CpuBuild:
    found = CpuBuild(context, dtype)
    found.start(build=build)
    return found


def network(variant: str, dtype: str) -> GPT:
    """A tiny random network."""
    # A vocabulary so large that the best tokens are searched in parts, and not a multiple of 4.
    size = 8203 if variant == "gpt2" else 29
    is_wide, kind = "wide" in variant, variant.removeprefix("wide").strip()
    fields = VARIANTS.get(kind, {}) | ({"n_embd": 128} if is_wide else {})  # fills vectors of words
    model = random_model(n_layer=3, **{"vocab_size": size, **fields})
    model.wte.weight.mul_(0.3)
    if is_wide:  # sums over more columns: smaller weights, or roundings grow
        for weight in model.parameters():
            weight.mul_(0.4)
    return model if dtype == "float32" else stored(model, dtype)


def code_of_product(matrix: Matrix) -> str:
    """The C++ code of a product with a matrix, whose result is checked."""
    x = torch.randn(matrix.shape[1])
    expected = numbers(matrix) @ x.double()
    matrix.weight = torch.nn.Parameter(matrix.streamed, requires_grad=False)
    torch.compiler.reset()
    with fresh_cache():
        y, source = run_and_get_cpp_code(torch.compile(product), x, matrix)
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-2)
    return str(source)


@pytest.mark.slow
@needs_compiler
@pytest.mark.skipif(not words.are_fast(), reason="this processor has no AVX-512 VNNI")
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_small_integers_are_multiplied_four_at_once(dtype: str) -> None:
    teach_dot4()
    source = code_of_product(matrix_of(torch.randn(70, 384), dtype))
    assert "_mm512_dpbusd_epi32" in source and f"<{dtype.replace('4', '8')}_t>" not in source


@pytest.mark.slow
@needs_compiler
def test_loops_over_matrices_prefetch_if_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "are_fast", lambda: False)
    matrix = matrix_of(torch.randn(64, 384), "int8")
    with prefetching(False):
        assert "__builtin_prefetch" not in code_of_product(matrix)
    with prefetching(True):
        lines = code_of_product(matrix).splitlines()
    loads = [line for line in lines if "<int8_t>::loadu" in line]
    prefetches = [line for line in lines if "__builtin_prefetch(in_ptr0 " in line]
    assert len(loads) == len(prefetches) > 0
    assert "2048L + x3" in prefetches[0]


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(
    ("variant", "dtype"),
    [
        ("gpt2", "float32"),
        ("ours", "float16"),
        ("opt", "int8"),
        ("llama", "float32"),
        ("qwen", "int8"),
        ("neox", "float16"),
        ("llama", "int4"),
        ("wide", "int8"),
        ("wide", "int4"),
    ],
)
def test_compiled_code_computes_what_the_network_does(
    variant: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.cache._FIRST_CAPACITY", 4)  # so that it grows several times
    model, same = network(variant, dtype), network(variant, dtype)
    context = context_of(same)
    cpu_build = cpu_build_of(context, dtype, build=True)
    assert not cpu_build.is_installed
    cpu_build.wait()
    assert cpu_build.is_installed
    assert cpu_build.poll()
    ids = torch.randint(29, (20,)).tolist()
    reference = context_of(model)
    bound = {"int4": 2e-3, "int8": 2e-3, "float16": 2e-2, "float32": 1e-4}[dtype]
    # A prompt at once, tokens one by one, an earlier position, other tokens after it.
    ends = [*range(6, 13), 8]
    for path in (*(ids[:end] for end in ends), *([*ids[:8], *ids[12:n]] for n in range(13, 21))):
        exact, found = (each.predict(each.read(path)[-1]) for each in (reference, context))
        assert exact.logits.shape == found.logits.shape
        assert (exact.logprobs - found.logprobs).abs().max() < bound
        assert (exact.entropy - found.entropy).abs() < bound
        # Asked for again, by a question about the settings, the numbers are the same; next to
        # integers, both have the activations in 16 bits.
        logits = same.logits(context.hidden[len(path) - 1])
        rounding = 1e-3 if dtype in ("int4", "int8") else 1e-4
        assert (logits.log_softmax(-1) - found.logprobs).abs().max() < rounding
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


@pytest.mark.slow
@needs_compiler
def test_a_text_drawn_by_compiled_code_has_the_scores_of_the_network(
    tiny: Checkpoint,
) -> None:
    context = tiny.new_context()
    cpu_build = cpu_build_of(context, "float32", build=True)
    cpu_build.wait()
    assert cpu_build.is_installed
    steps = list(generate(context, [3, 1], Sampling(seed=4), Limits(20)))
    ids = [3, 1, *(step.token_id for step in steps)]
    logprobs = tiny.model(torch.tensor([ids])).log_softmax(-1)[0]
    for step in steps:
        exact = logprobs[step.position - 1]
        assert step.logprob == pytest.approx(exact[step.token_id].item(), abs=1e-4)
        assert step.candidates[0].logprob == pytest.approx(exact.max().item(), abs=1e-4)
    # The inspector asks for the logits of earlier states.
    torch.testing.assert_close(
        context.predict(context.hidden[4]).logprobs[0], logprobs[4], atol=1e-4, rtol=0
    )
    # Existing code is found without building.
    again = context_of(random_model())
    assert cpu_build_of(again, "float32", build=False).is_installed


@pytest.mark.slow
@needs_compiler
@pytest.mark.skipif(not words.are_fast(), reason="this processor has no AVX-512 VNNI")
@pytest.mark.parametrize(("variant", "dtype"), [("wide llama", "int8"), ("wide", "int4")])
def test_branches_are_read_by_code_that_is_built_when_they_are_first_drawn(
    variant: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.cache._FIRST_CAPACITY", 4)
    context, reference = (context_of(network(variant, dtype)) for _ in range(2))
    built = cpu_build_of(context, dtype, build=True)
    built.wait()
    bound = 2e-3
    text = [3, 1, 4, 1, 5]

    def predictions() -> Iterator[tuple[Prediction, Prediction]]:
        """Of branches that part, end and are more than a call reads: found and expected."""
        trees = []
        for each in (context, reference):
            each.read(text)
            trees.append(Continuations(each, len(text)))
        rows = [0] * (ROWS + 3)
        for step in range(4):
            ids = [[(7 * step + i) % 29] for i in rows]
            states = [[each[-1] for each in tree.read(rows, ids)] for tree in trees]
            yield context.predict(*states[0]), reference.predict(*states[1])
            rows = [0, 0, 2, 3] if step else [10, 9, *range(8)]

    assert isinstance(context.step, CompiledStep)
    assert not context.step.has_batch
    for found, expected in predictions():  # by the network, meanwhile the code is being built
        assert (found.logprobs - expected.logprobs).abs().max() < bound
    assert built.is_running
    built.wait()
    assert isinstance(context.step, CompiledStep)
    assert context.step.has_batch
    with monkeypatch.context() as patched:
        patched.setattr(context.model, "hidden", lambda *_: pytest.fail("it is not compiled"))
        for found, expected in predictions():
            assert found.logits.shape == expected.logits.shape
            assert (found.logprobs - expected.logprobs).abs().max() < bound
            torch.testing.assert_close(found.entropy, expected.entropy, atol=bound, rtol=0)
            assert torch.equal(found.logprobs.gather(1, found.top_ids), found.top_logprobs)
    # Wrong numbers are noticed when it is installed.
    right = CompiledStep.rows
    flipped = lambda *args: [each.flip(-1) for each in right(*args) or ()]  # noqa: E731
    monkeypatch.setattr(CompiledStep, "rows", flipped)
    built.install()
    assert isinstance(context.step, CompiledStep)
    assert not context.step.has_batch


@pytest.mark.slow
@needs_compiler
def test_the_engine_builds_in_the_background_and_says_what_drew_the_tokens(
    tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT_TUI_HOME", str(tmp_path))  # has no compiled code yet
    client = Client()
    client.until("hello")
    client.send({"op": "load", "model": str(tiny_directory), "compile": "auto", "threads": 1})
    client.until("loaded")
    request = {"op": "generate", "text": "to be", "max_new_tokens": 12, "sampling": {"seed": 3}}
    found: list[list[dict[str, Any]]] = []
    while not found or not found[-1][-1]["compiled"]:
        client.send(request)
        found.append(client.until("done", "error"))
    assert not found[0][-1]["compiled"]  # the first tokens do not wait for it
    texts = [
        "".join(step["text"] for line in lines for step in line.get("steps", ())) for lines in found
    ]
    assert len(set(texts)) == 1
    client.process.stdin.close()
    assert client.process.wait(20) == 0


@pytest.mark.slow
@needs_compiler
def test_code_that_computes_wrong_numbers_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model()
    cpu_build_of(context_of(model), "float32", build=True).wait()
    right = CompiledStep.prediction

    def wrong(self: CompiledStep, *hidden: torch.Tensor) -> Prediction | None:
        found = right(self, *hidden)
        return None if found is None else found._replace(logits=found.logits.flip(-1))

    monkeypatch.setattr(CompiledStep, "prediction", wrong)
    refused = cpu_build_of(context_of(random_model()), "float32", build=False)
    assert not refused.is_installed
    assert "its numbers are not the model's" in refused.notice


def test_without_a_build_or_a_compiler_there_is_no_code(monkeypatch: pytest.MonkeyPatch) -> None:
    model = context_of(network("gpt2", "bfloat16"))
    cpu_build = cpu_build_of(model, "bfloat16", build=False)
    assert not cpu_build.poll()
    monkeypatch.setattr("gpt.fast.cpu_build.compiler", lambda: None)
    cpu_build = cpu_build_of(model, "bfloat16", build=True)
    cpu_build.wait()
    assert not cpu_build.poll()
    assert model.step is None


@pytest.mark.parametrize("content", [b"", b"not a library"])
def test_a_damaged_library_is_not_used(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another home, because a library in use must not be overwritten.
    monkeypatch.setenv("GPT_TUI_HOME", str(tmp_path))
    model = random_model()
    for path in library_paths(model.config, "float32").values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    assert not cpu_build_of(context_of(model), "float32", build=False).is_installed


@pytest.mark.slow
@needs_compiler
def test_a_build_that_fails_leaves_a_note_and_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    model = random_model(n_embd=48)
    monkeypatch.setenv("CXX", "false")
    cpu_build_of(context_of(model), "float32", build=True).wait()
    notes = [build.failure_note(path) for path in library_paths(model.config, "float32").values()]
    assert [note.exists() for note in notes] == [
        True,
        False,
        False,
        False,
    ]  # the first failure ends the build
    assert "Error" in notes[0].read_text()
    started: list[Any] = []
    monkeypatch.setattr(subprocess, "Popen", started.append)
    assert not cpu_build_of(context_of(model), "float32", build=True).poll()
    assert started == []


@pytest.mark.slow
@needs_compiler
def test_a_build_can_be_stopped_and_leaves_no_library(home: Path) -> None:
    model = random_model(n_embd=64)
    cpu_build = cpu_build_of(context_of(model), "float32", build=True)
    process = cpu_build._process
    assert process
    while not list((home / "compiled").glob("build-*")):  # until the compiler writes files
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"the build ended by itself, with status {process.wait(0.05)}")
    cpu_build.stop()
    assert not cpu_build.poll()
    paths = library_paths(model.config, "float32")
    # The code of a race is the same for all models, so it may exist.
    assert not any(path.exists() for part, path in paths.items() if "race" not in part)


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
    monkeypatch.setattr("gpt.fast.cpu_build.compiler", lambda: "c++")
    config = load(tiny_directory).model.config
    for path in library_paths(config, "float32").values() if built else ():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"code")
    if not built:  # without code there is nothing to report
        assert load_model(tiny_directory, RunOptions("cpu", "float32", threads=1)).notice == ""
    parent, _, attribute = name.rpartition(".")
    monkeypatch.delattr(getattr(torch._C, parent) if parent else torch._C, attribute)
    loaded = load_model(tiny_directory, RunOptions("cpu", "float32", threads=1, compile="auto"))
    assert "this version of PyTorch" in loaded.notice
    assert torch.__version__ in loaded.notice
    assert not loaded.is_compiled()
    drawn = generate(loaded.context, [1], Sampling(), Limits(3))
    assert len(list(drawn)) == 3


class OtherRunner:
    """The class that loads machine code, as another version of torch may have it."""

    def __init__(self, path: str, n: int) -> None:
        pass

    def run(self, tensors: Any, stream: Any, more: Any) -> Any:
        raise AssertionError


@pytest.mark.usefixtures("one_thread")
def test_machine_code_that_cannot_be_called_is_not_used(
    tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT_TUI_HOME", str(tmp_path))
    for path in library_paths(load(tiny_directory).model.config, "float32").values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"code")
    monkeypatch.setattr(torch._C._aoti, "AOTIModelContainerRunnerCpu", OtherRunner)
    loaded = load_model(tiny_directory, RunOptions("cpu", "float32", threads=1))
    assert "TypeError" in loaded.notice
    assert "\n" not in loaded.notice
    assert not loaded.is_compiled()


INTERNALS = {
    "torch._inductor": "aoti_compile_and_package",
    "torch._inductor.codegen.cpp": "CppVecKernel",
    "torch._inductor.codegen.cpp_utils": "cexpr_index",
    "torch._inductor.virtualized": "V",
}


@pytest.mark.parametrize("module", INTERNALS)
def test_a_torch_without_these_internals_builds_code_without_prefetches_or_says_why_not(
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
    monkeypatch.setattr(sys, "argv", ["cpu_compile", json.dumps(request)])
    monkeypatch.setattr(os, "nice", lambda n: n)
    if module == "torch._inductor":
        with pytest.raises(ImportError):
            cpu_compile.main()
        assert "aoti_compile_and_package" in build.failure_note(library).read_text()
    else:
        with prefetching(True):
            pass


@needs_compiler
@pytest.mark.usefixtures("one_thread")
def test_a_build_that_failed_is_named_when_code_is_wanted(
    tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT_TUI_HOME", str(tmp_path))
    paths = library_paths(load(tiny_directory).model.config, "float32")
    note = build.failure_note(paths["block"])
    note.parent.mkdir(parents=True)
    note.write_text("reason")
    wanted = load_model(tiny_directory, RunOptions("cpu", "float32", threads=1, compile="auto"))
    assert str(note) in wanted.notice
    assert load_model(tiny_directory, RunOptions("cpu", "float32", threads=1)).notice == ""


@needs_compiler
def test_code_for_branches_that_could_not_be_built_is_named_when_code_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code for single texts is in use all the same."""
    library = tmp_path / "batch.so"
    note = build.failure_note(library)
    monkeypatch.setattr("gpt.fast.cpu_build.library_paths", lambda *_: {})
    monkeypatch.setattr("gpt.fast.cpu_build.batch_paths", lambda *_: {"batch": library})
    monkeypatch.setattr("gpt.fast.cpu_build.CompiledStep", lambda *_: Mock(has_batch=False))
    monkeypatch.setattr("gpt.fast.cpu_build._agrees", lambda *_: True)
    # The process that builds fails at once.
    monkeypatch.setattr(CpuBuild, "run", lambda *_, **__: note.write_text("reason"))
    built = cpu_build_of(context_of(random_model()), "int8", build=True)
    assert built.notice == ""
    built.want_branches()
    assert note.exists()
    built.install()
    assert built.is_installed
    assert "for several branches" in built.notice
    assert str(note) in built.notice
    note.write_text("is not tried again")
    built.want_branches()
    assert note.read_text() == "is not tried again"
    assert cpu_build_of(context_of(random_model()), "int8", build=False).notice == ""


def test_different_code_has_different_paths() -> None:
    config = random_model().config
    names = [library_paths(config, dtype)["block"] for dtype in ("float32", "int8")]
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    names.append(library_paths(config, "float32")["block"])
    torch.set_num_threads(before)
    names += [library_paths(random_model(n_head=4).config, "float32")["block"]]
    assert len(set(names)) == 4
    # The code of a block does not depend on the number of layers or the vocabulary.
    deeper = random_model(n_layer=5, vocab_size=31).config
    assert library_paths(deeper, "float32")["block"] == names[0]
    assert library_paths(deeper, "float32")["output"] != library_paths(config, "float32")["output"]
    everything = library_paths(config, "int8") | batch_paths(config, "int8")
    assert len(set(everything.values())) == len(everything)


def test_a_field_that_changes_code_is_in_the_name_of_its_file() -> None:
    named = {*cpu_step._BLOCK_FIELDS, *cpu_step._INPUT_AND_OUTPUT_FIELDS}
    assert {field.name for field in fields(ModelConfig)} - named == {
        *("n_layer", "attn_scale", "attn_scale_by_layer"),  # the scale is an argument
        *("dropout", "attn_dropout"),  # only in training
        *("bos_id", "eos_id", "pad_id"),
    }
    paths = [library_paths(random_model(**each).config, "int8") for each in VARIANTS.values()]
    for part in ("input", "block"):
        assert len({each[part] for each in paths}) == len(paths)


@pytest.mark.slow
@needs_compiler
def test_code_that_was_not_used_for_long_is_removed(home: Path) -> None:
    model = network("gpt2", "float32")
    cpu_build = cpu_build_of(context_of(model), "float32", build=True)
    cpu_build.wait()
    used = list(library_paths(model.config, "float32").values())
    cache = home / "compiled"
    killed, going_on = cache / "build-killed", cache / "build-going-on"
    old, note, young = cache / "block-old.so", cache / "old.failed.txt", cache / "block-young.so"
    for directory in (killed, going_on):
        directory.mkdir()
    for path in (old, note, young):
        path.touch()
    for age, paths in ((61 * 24 * 3600, [*used, old, note]), (3700, [killed])):
        for path in paths:
            os.utime(path, (time.time() - age,) * 2)
    cpu_build.install()  # marks it as used
    build.sweep(cache)
    assert not any(path.exists() for path in (old, note, killed))
    assert all(path.exists() for path in (*used, young, going_on))


def test_code_is_in_the_cache_directory_of_the_platform(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GPT_TUI_HOME")
    assert build.cache_directory() == platformdirs.user_cache_path("gpt-tui") / "compiled"
