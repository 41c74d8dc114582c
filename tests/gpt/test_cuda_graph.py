"""CUDA graphs draw what eager code does. Without a GPU, a graph is a call of its step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gpt import prediction
from gpt.checkpoint import Checkpoint, empty_network, load
from gpt.context import Context
from gpt.draw import choose
from gpt.fast import cuda_graph, cuda_step
from gpt.fast.cuda_graph import Graphs, ResultBuffer, bucket_size
from gpt.fast.cuda_step import Graph, StepCode
from gpt.generate import Limits, generate, score
from gpt.model import GPT
from gpt.prediction import NonFiniteLogitsError
from gpt.progress import NOBODY, Watcher
from gpt.settings import Sampling
from gpt.step import Step
from tests.conftest import random_model
from tests.gpt.test_draw import SLOW
from tests.gpt.test_quantize import VARIANTS

on_gpu = pytest.param(
    "cuda",
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
    ],
)
SETTINGS = [
    Sampling(temperature=0.0),
    Sampling(seed=3),
    Sampling(temperature=1.3, top_k=9, top_p=0.8, seed=4),
    Sampling(min_p=0.05, repetition_penalty=1.7, seed=5),
    Sampling(banned=((4,), (7, 2)), boosted=(((3,), 1.5), ((9, 9), 30.0)), seed=6),
]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graph, "SHORTEST", 8)


class Recorder(TorchDispatchMode):
    """Records what a CUDA graph does: operators and the memory that they use."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "lift_fresh"):
            raise RuntimeError(f"{func} waits for the GPU, which is not possible in a capture")
        found = func(*args, **(kwargs or {}))
        self._calls.append((func, args, kwargs or {}, found))
        return found

    @torch.inference_mode()
    def replay(self) -> None:
        """Call the same operators on the same memory, without the Python code between them."""
        for func, args, kwargs, recorded in self._calls:
            found = func(*args, **kwargs)
            for old, new in zip(tree_leaves(recorded), tree_leaves(found), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def record(graph: Graph, token_id: int, length: int) -> None:
    """Do on a CPU what `Graph.capture` does on a GPU."""
    graph.start(token_id, length)
    graph._run_eagerly()
    graph.start(token_id, length)
    with Recorder() as recorder:
        graph._run_eagerly()
    graph.run = recorder.replay


@pytest.fixture(params=["cpu", "recorded", on_gpu])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A device; "recorded" is a CPU that replays graphs as a GPU does."""
    if request.param != "recorded":
        return str(request.param)
    monkeypatch.setattr(Graph, "capture", record)
    return "cpu"


def loaded(tiny: Checkpoint, device: str = "cpu", **changes: Any) -> tuple[Checkpoint, Context]:
    """A tiny network and a context that uses graphs."""
    one = replace(tiny, model=random_model(**changes).to(device))
    context = one.new_context()
    context.graphs = Graphs(context)
    return one, context


def graphs_of(context: Context) -> Graphs:
    assert isinstance(context.graphs, Graphs)
    return context.graphs


def assert_same(found: Sequence[Step], expected: Sequence[Step]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        plain = one._replace(candidates=(), logprob=0, entropy=0, sampling_logprob=0)
        assert plain == other._replace(candidates=(), logprob=0, entropy=0, sampling_logprob=0)
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert one.entropy == pytest.approx(other.entropy, abs=1e-4)
        assert one.sampling_logprob == pytest.approx(other.sampling_logprob, abs=1e-4)
        for a, b in zip(one.candidates, other.candidates, strict=True):
            assert (a.token_id, a.text) == (b.token_id, b.text)
            assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
            assert a.sampling_logprob == pytest.approx(b.sampling_logprob, abs=1e-4)


@pytest.mark.parametrize(
    ("n_tokens", "expected"), [(0, 128), (127, 128), (128, 256), (300, 512), (512, 700), (699, 700)]
)
def test_buckets_double_up_to_the_block_size(
    n_tokens: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graph, "SHORTEST", 128)
    assert bucket_size(n_tokens, 700) == expected
    assert bucket_size(n_tokens % 32, 32) == 32


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("sampling", SETTINGS)
def test_a_text_has_the_same_tokens_and_numbers(
    variant: str, sampling: Sampling, tiny: Checkpoint, device: str
) -> None:
    one, context = loaded(tiny, device, **VARIANTS[variant])
    eager = one.new_context()
    found = list(generate(context, [3, 1], sampling, Limits(99)))
    assert graphs_of(context).reason == ""
    assert [size for size, _ in graphs_of(context)._graphs] == [8, 16, 32]
    assert_same(found, list(generate(eager, [3, 1], sampling, Limits(99))))
    assert found[-1].finish_reason == "context full"
    # The context has the same ids and hidden states.
    assert context.ids == eager.ids
    torch.testing.assert_close(
        torch.stack(context.hidden), torch.stack(eager.hidden), atol=1e-4, rtol=1e-4
    )
    path = [3, 1, *(step.token_id for step in found)]
    assert [s.logprob for s in score(context, path, start=2)] == pytest.approx(
        [step.logprob for step in found], abs=1e-4
    )


@pytest.mark.parametrize("values", SLOW, ids=lambda values: next(iter(values)))
def test_a_setting_that_no_graph_knows_is_drawn_eagerly(
    values: dict[str, Any], tiny: Checkpoint, device: str
) -> None:
    one, context = loaded(tiny, device)
    sampling = Sampling(**{"seed": 3, **values})
    found = list(generate(context, [3, 1], sampling, Limits(12)))
    assert not graphs_of(context)._graphs
    assert_same(found, list(generate(one.new_context(), [3, 1], sampling, Limits(12))))


def test_greedy_text_on_a_gpu_is_that_of_the_cpu(tiny: Checkpoint, device: str) -> None:
    steps = [
        list(generate(loaded(tiny, where)[1], [5], Sampling(temperature=0.0), Limits(30)))
        for where in ("cpu", device)
    ]
    assert_same(*steps)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_window_slides_past_the_block_size(seed: int, tiny: Checkpoint, device: str) -> None:
    one, context = loaded(tiny, device)
    limits = Limits(100, slide=True)
    found = list(generate(context, [3], Sampling(seed=seed), limits))
    assert_same(found, list(generate(one.new_context(), [3], Sampling(seed=seed), limits)))


def test_branches_settings_and_texts_follow_each_other_without_a_new_capture(
    tiny: Checkpoint, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, context = loaded(tiny, device)
    for sampling in (Sampling(), Sampling(repetition_penalty=1.2)):
        context.truncate(0)
        list(generate(context, [1], sampling, Limits(99)))
    made: list[object] = []
    monkeypatch.setattr(Graphs, "_make", lambda self, *arguments: made.append(arguments))
    paths = [[1, 2, 3], [1, 2, 9, 9, 9, 4], [1], list(range(25)), [1, 2, 3, 8]]
    for n, path in enumerate(paths):
        sampling = SETTINGS[n]
        fresh = generate(one.new_context(), path, sampling, Limits(6))
        assert_same(list(generate(context, path, sampling, Limits(6))), list(fresh))
    assert made == []


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_what_was_computed_ahead_is_forgotten_if_a_text_is_cut_off(
    n: int, tiny: Checkpoint, device: str
) -> None:
    one, context = loaded(tiny, device)
    steps: Iterator[Step] = generate(context, [3, 1], Sampling(seed=2), Limits(20))
    first_steps = list(islice(steps, n))
    steps.close()  # type: ignore[attr-defined]
    path = [3, 1, *(step.token_id for step in first_steps)]
    assert context.ids == path[:-1]
    assert context.cache.length == len(context.hidden) == len(path) - 1
    other = generate(context, [*path, 7], Sampling(seed=9), Limits(9))
    fresh = generate(one.new_context(), [*path, 7], Sampling(seed=9), Limits(9))
    assert_same(list(other), list(fresh))


def test_only_the_first_token_is_drawn_eagerly(
    tiny: Checkpoint, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _one, context = loaded(tiny, device)
    text = list(generate(context, [3], Sampling(seed=2), Limits(30)))
    assert [size for size, _ in graphs_of(context)._graphs] == [8, 16, 32]
    eager = []
    monkeypatch.setattr("gpt.generate.choose", lambda *args: (eager.append(args), choose(*args))[1])
    context.truncate(0)
    assert_same(list(generate(context, [3], Sampling(seed=2), Limits(30))), text)
    assert len(eager) == 1


def test_stop_strings_and_cancelling_end_a_text(tiny: Checkpoint, device: str) -> None:
    _one, context = loaded(tiny, device)
    text = [step.text for step in generate(context, [3], Sampling(), Limits(12))]
    endings = {
        "stop": (Limits(12, [text[9]]), NOBODY),
        "cancelled": (Limits(12), Watcher(lambda: len(context.ids) > 6)),
    }
    for reason, (limits, watcher) in endings.items():
        context.truncate(0)
        found = list(generate(context, [3], Sampling(), limits, watcher=watcher))
        assert [step.text for step in found] == text[: len(found)]
        assert found[-1].finish_reason == reason


def test_more_candidates_than_a_graph_returns_are_drawn_eagerly(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (cuda_graph, cuda_step, prediction):
        monkeypatch.setattr(module, "TOP", 5)
    _one, context = loaded(tiny)
    steps = list(generate(context, [3], Sampling(), Limits(4), top=6))
    assert [len(step.candidates) for step in steps] == [6] * 4
    assert not graphs_of(context)._graphs
    steps = list(generate(context, [3], Sampling(), Limits(4), top=5))
    assert [len(step.candidates) for step in steps] == [5] * 4
    assert graphs_of(context)._graphs


@pytest.mark.parametrize("is_plain", [True, False])
@pytest.mark.parametrize("what", ["describe", "draw"])
def test_code_that_computes_wrong_numbers_is_not_used(
    what: str, is_plain: bool, tiny: Checkpoint, device: str
) -> None:
    one, context = loaded(tiny, device)
    graphs = graphs_of(context)
    assert graphs
    right = getattr(StepCode(one.model), what)
    wrong = StepCode(one.model)._replace(
        **{what: lambda first, *rest: right(first.flip(-1), *rest)}  # type: ignore[arg-type]
    )
    graphs.use(wrong)
    if is_plain:
        graphs._plain = wrong
    found = list(generate(context, [3], Sampling(seed=1), Limits(9)))
    expected = generate(one.new_context(), [3], Sampling(seed=1), Limits(9))
    assert_same(found, list(expected))
    assert not graphs.is_compiled
    assert is_plain or "the graph" in graphs.why_not_compiled
    assert bool(graphs._graphs) != is_plain
    assert ("the graph" in graphs.reason) == is_plain


def test_if_nothing_can_be_captured_tokens_are_drawn_eagerly(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Graph) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Graph, "_run_eagerly", fail)
    _one, context = loaded(tiny)
    found = list(generate(context, [3], Sampling(seed=1), Limits(9)))
    assert "capturing" in graphs_of(context).reason
    assert len(found) == 9


def test_a_gpu_without_memory_for_a_graph_is_not_hidden(
    tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Graph, *rest: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Graphs, "_compare", fail)
    _one, context = loaded(tiny)
    with pytest.raises(torch.OutOfMemoryError):
        list(generate(context, [3], Sampling(seed=1), Limits(9)))


def test_the_error_for_logits_that_are_not_finite_has_the_position(
    tiny: Checkpoint, device: str
) -> None:
    one, context = loaded(tiny, device)
    list(generate(context, [3], Sampling(), Limits(4)))
    one.model.h[0].mlp.proj.bias.fill_(float("nan"))
    context.truncate(1)
    steps = graphs_of(context).draw([3, 4], Sampling(), 0, 3, 10)
    with pytest.raises(NonFiniteLogitsError, match="position 2"):
        list(steps)


def test_a_result_buffer_keeps_the_latest_results(device: str) -> None:
    result = torch.zeros(3, device=device)
    results = ResultBuffer(result)
    for n in range(20):
        result.fill_(n)
        results.put(n, result)
        if n:
            assert results.get(n - 1).tolist() == [n - 1] * 3


@pytest.mark.parametrize("tied", [True, False])
def test_a_gpu_computes_in_16_bits_and_returns_logits_in_32(tied: bool) -> None:
    config = random_model(tied=tied).config
    network = empty_network(config, "bfloat16", "cuda")
    hidden = network.hidden(torch.zeros(1, 7, dtype=torch.long, device="meta"))
    assert (hidden.dtype, hidden.shape) == (torch.bfloat16, (1, 7, 16))
    logits = network.logits(hidden)
    assert (logits.dtype, logits.shape) == (torch.float32, (1, 7, 29))
    assert type(empty_network(config, "float32", "cuda")) is GPT


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_graph_is_captured_and_its_numbers_are_almost_those_of_float32(
    tiny_directory: Path,
) -> None:
    exact = load(tiny_directory)
    half = load(tiny_directory, "cuda", "bfloat16")
    context = half.new_context()
    context.graphs = Graphs(context)
    steps = list(generate(context, [3], Sampling(seed=1), Limits(30)))
    assert graphs_of(context).reason == ""
    assert all(graph.run != graph._run_eagerly for graph in graphs_of(context)._graphs.values())
    path = [3, *(step.token_id for step in steps)]
    for step, other in zip(steps, score(exact.new_context(), path, start=1), strict=True):
        assert step.logprob == pytest.approx(other.logprob, abs=0.3)
