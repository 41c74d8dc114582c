"""The whole program on a CUDA GPU, compared with the CPU. See also test_cuda_graph.py."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt.checkpoint import Checkpoint, load
from gpt.context import Context
from gpt.fast.cuda_graph import Graphs
from gpt.generate import Limits, generate
from gpt.loaded import RunOptions, load_model
from gpt.settings import Sampling
from gpt.training.evaluate import mean_loss
from gpt.training.loop import TrainConfig, Training
from tests.conftest import random_model
from tests.gpt.served import Served
from tests.gpt.test_cuda_compile import cuda_build_of
from tests.gpt.test_cuda_graph import assert_same, graphs_of, short  # noqa: F401
from tests.gpt.test_quantize import VARIANTS
from tests.gpt.test_train import SENTENCE, network

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    pytest.mark.timeout(300),
]
NOT_COMPARED = {"seconds", "prompt_seconds", "device"}


@pytest.fixture
def no_memory() -> Iterator[Any]:
    """A function that fills the memory of the GPU."""
    taken: list[torch.Tensor] = []

    def take() -> None:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(0.0)
        for size in (1 << 22, 1 << 18, 1 << 12, 1):  # also what PyTorch reserves for small tensors
            with suppress(torch.OutOfMemoryError):
                while True:
                    taken.append(torch.empty(size, dtype=torch.uint8, device="cuda"))

    yield take
    torch.cuda.set_per_process_memory_fraction(1.0)


def assert_close(one: Any, other: Any) -> None:
    """The same structure and words, and numbers that are equal except for rounding."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one.keys() - NOT_COMPARED:
            assert_close(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_close(*pair)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-3)
    else:
        assert one == other


def test_every_answer_of_the_engine_is_that_of_the_cpu(tiny_directory: Path) -> None:
    path = {"text": "to be or not"}
    sampling = {"temperature": 0.8, "top_k": 9, "top_p": 0.9, "repetition_penalty": 1.2}
    requests: list[dict[str, Any]] = [
        {"op": "generate", **path, "max_new_tokens": 12, "sampling": sampling},
        {"op": "generate", **path, "max_new_tokens": 40, "slide": True},
        {"op": "score", **path},
        {"op": "waterfall", **path, "sampling": sampling},
        {"op": "paths", **path, "width": 4, "depth": 4},
        {"op": "layers", **path, "chosen": 3},
        {"op": "attribution", **path, "chosen": 3},
        {"op": "options", **path, "options": [" to", " so"]},
    ]
    numbered = [{"id": n, **request} for n, request in enumerate(requests, 2)]

    def answers(device: str) -> list[dict[str, Any]]:
        options = {"model": str(tiny_directory), "device": device, "dtype": "float32"}
        lines = Served({"id": 1, "op": "load", **options}, *numbered).lines
        loaded = next(line for line in lines if line["event"] == "loaded")
        assert (loaded["device"], loaded["notice"]) == (device, "")
        # How steps are grouped into lines depends on the time; the steps do not.
        return [
            answer
            for line in lines
            if line["id"] not in (1, None)
            for answer in line.get("steps", [line])
        ]

    assert_close(answers("cuda"), answers("cpu"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_compiled_code_draws_what_the_network_does(
    variant: str, tiny: Checkpoint, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(home / "caches"))
    one = replace(tiny, model=random_model(**VARIANTS[variant]).to("cuda"))
    context = one.new_context()
    context.graphs = Graphs(context)
    build = cuda_build_of(context, build=True)
    build.wait()
    notes = [note.read_text() for note in (home / "compiled").glob("*.failed.txt")]
    assert notes == []
    assert build.is_installed
    sampling = Sampling(temperature=0.9, top_k=20, top_p=0.9, seed=3)
    found = list(generate(context, [3, 1], sampling, Limits(30)))
    assert graphs_of(context).is_compiled
    assert graphs_of(context).reason == ""
    eager = generate(one.new_context(), [3, 1], sampling, Limits(30))
    assert_same(found, list(eager))


@pytest.mark.parametrize("compiled", [False, True])
def test_training_learns_and_measures_as_on_the_cpu(compiled: bool) -> None:
    model, corpus = network(SENTENCE * 30)
    settings = TrainConfig(steps=60, batch_size=8, lr=0.03, warmup=5, average=0.9)
    training = Training(model.to("cuda"), corpus, settings, compiled=compiled)
    progress = list(training.run())
    assert training.settings.precision == "bfloat16"
    assert progress[-1].validation_loss is not None
    assert progress[-1].validation_loss < 0.5
    loss = mean_loss(training.learned, corpus.validation)
    assert loss == pytest.approx(mean_loss(training.learned.cpu(), corpus.validation), abs=1e-3)


def test_a_run_that_was_interrupted_ends_with_the_same_weights() -> None:
    settings = TrainConfig(steps=12, batch_size=8, lr=0.03, warmup=5)

    def training() -> Training:
        model, corpus = network(SENTENCE * 30, dropout=0.1)
        return Training(model.to("cuda"), corpus, settings)

    whole = training()
    list(whole.run())
    interrupted, resumed = training(), training()
    steps = interrupted.run()
    for _ in range(5):
        next(steps)
    resumed.load_state(interrupted.state())
    list(resumed.run())
    torch.testing.assert_close(resumed.model.wte.weight, whole.model.wte.weight)


def test_if_a_model_does_not_fit_on_the_gpu_it_runs_on_the_cpu(
    tiny_directory: Path, no_memory: Any
) -> None:
    no_memory()
    loaded = load_model(tiny_directory, RunOptions("cuda"))
    assert loaded.device == "cpu"
    assert "has not enough memory" in loaded.notice


def test_if_the_gpu_runs_out_of_memory_the_model_moves_to_the_cpu(
    tiny_directory: Path, no_memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Context.read

    def read_and_fill(self: Context, *arguments: Any) -> Any:
        if self.model.wte.weight.is_cuda:
            no_memory()
        return read(self, *arguments)

    monkeypatch.setattr(Context, "read", read_and_fill)
    load_request = {"id": 1, "op": "load", "model": str(tiny_directory), "device": "cuda"}
    generate_request = {"id": 2, "op": "generate", "text": "to be", "max_new_tokens": 6}
    served = Served(load_request, generate_request)
    assert served.of(1)[-1]["device"] == "cuda"
    notice, *rest = served.of(2)
    assert "has not enough memory" in notice["message"]
    assert (rest[-1]["event"], rest[-1]["device"]) == ("done", "cpu")


def test_a_model_that_leaves_the_gpu_frees_its_memory(tiny_directory: Path) -> None:
    def used_by_one() -> int:
        one = load(tiny_directory, "cuda", "bfloat16")
        context = one.new_context()
        context.graphs = Graphs(context)
        list(generate(context, [3], Sampling(seed=1), Limits(30)))
        assert graphs_of(context).reason == ""
        del one, context
        gc.collect()
        return torch.cuda.memory_allocated()

    first = used_by_one()  # cuBLAS allocates memory once and keeps it
    assert used_by_one() == first
