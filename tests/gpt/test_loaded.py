"""Which device and dtype a model gets, and what happens where a GPU fails. No GPU is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from gpt import checkpoint, device
from gpt.checkpoint import Checkpoint
from gpt.context import Context
from gpt.errors import UserError
from gpt.fast.cuda_graph import ResultBuffer
from gpt.loaded import RunOptions, load_model
from gpt.model import GPT, attention
from gpt.models import Manifest
from gpt.weights.quantize import Matrix
from gpt.weights.timing import least_seconds
from tests.conftest import random_model
from tests.gpt.served import Served

OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
LOST = RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be …")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [
        (True, False, ("cuda", "bfloat16")),
        (True, True, ("cuda", "bfloat16")),
        (False, True, ("mps", "float32")),
        (False, False, ("cpu", "int8")),
    ],
)
def test_auto_takes_the_best_device(
    cuda: bool, mps: bool, expected: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(device, "fast_storage", lambda dtype: True)
    assert device.choose(n_params=100_000_000) == expected


@pytest.mark.parametrize(
    ("n_params", "fast", "expected"),
    [
        (100_000_000, True, "int8"),
        (5_000_000, True, "float16"),
        (500_000, True, "float32"),
        (100_000_000, False, "float32"),
        (5_000_000, False, "float32"),
    ],
)
def test_auto_on_a_cpu_depends_on_size_and_speed(
    n_params: int, fast: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "fast_storage", lambda dtype: fast)
    assert device.choose("cpu", "auto", n_params) == ("cpu", expected)


@pytest.mark.parametrize(
    ("n_params", "divergence", "expected"),
    [
        (10**8, {"int8": 9e-4}, "int8"),
        (10**8, {"int8": 4.6e-3, "float16": 2e-6}, "float16"),
        (10**8, {"int8": None, "float16": None, "bfloat16": 6e-5}, "bfloat16"),
        (10**8, {"int8": 1.0, "float16": None, "bfloat16": 2e-3}, "float32"),
        (5_000_000, {"int8": 0.0, "float16": 0.1, "bfloat16": 0.0}, "bfloat16"),
    ],
)
def test_auto_takes_no_dtype_that_costs_too_much(
    n_params: int,
    divergence: dict[str, float | None],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device, "fast_storage", lambda dtype: True)
    assert device.choose("cpu", "auto", n_params, divergence) == ("cpu", expected)


@pytest.mark.parametrize(
    "said", [None, [], {"int8": "0.1"}, {"int8": -1.0}, {"int8": float("nan")}, {"int9": 0.1}]
)
def test_a_cost_in_a_manifest_that_makes_no_sense_is_ignored(said: Any) -> None:
    assert Manifest("float32", 1, {}, {"divergence": said}).divergence == {}


@pytest.mark.parametrize(
    ("compiler", "times", "fast"),
    [
        (None, 0.9, True),
        (None, 1.1, False),
        ("g++", 3.9, True),
        ("g++", 4.1, False),
    ],
)
def test_a_dtype_is_fast_where_it_or_its_compiled_code_is(
    compiler: str | None, times: float, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([times, 1.0])
    monkeypatch.setattr(device, "compiler", lambda: compiler)
    monkeypatch.setattr(device, "least_seconds", lambda call: next(seconds))
    assert device.fast_storage("int8") == fast


@pytest.mark.parametrize("slow", ["int8", "float32"])
def test_whether_a_dtype_is_fast_is_measured(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def product(matrix: Matrix, x: torch.Tensor) -> None:
        if (matrix.dtype == "float32") == (slow == "float32"):
            x.expand(2000, -1) @ x.T.expand(-1, 200)

    monkeypatch.setattr(Matrix, "product", product)
    assert device.fast_storage("int8") == (slow == "float32")


@pytest.mark.parametrize(
    ("where", "dtype", "message"),
    [
        ("mps", "auto", "no usable MPS device"),
        ("cuda:7", "auto", "no usable CUDA device 7"),
        ("tpu", "auto", "use auto, cpu, cuda or mps"),
        ("cpu", "float7", "no dtype 'float7'"),
    ],
)
def test_what_is_not_there_is_an_error(
    where: str, dtype: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        device.choose(where, dtype)


@pytest.mark.parametrize(
    ("n_params", "wanted", "spare", "expected"),
    [
        (10**6, None, 0, 1),
        (10**8, None, 0, 4),
        (10**8, None, 1, 3),
        (10**8, 2, 1, 2),
        (10**6, 3, 0, 3),
    ],
)
def test_threads_suit_the_model_and_leave_what_is_to_be_spared(
    n_params: int, wanted: int | None, spare: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(device, "_THREADS", 4)
    assert device.use_threads(n_params, wanted=wanted, spare=spare) == expected
    assert torch.get_num_threads() == expected
    torch.set_num_threads(before)
    monkeypatch.setattr(device, "_THREADS", 1)
    assert device.use_threads(10**8, spare=1) == 1
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("n_params", "spare", "seconds", "expected"),
    [
        (10**7, 0, {1: 1.0, 2: 0.6, 4: 0.59}, 2),
        (10**7, 0, {1: 1.0, 2: 0.6, 4: 0.4}, 4),
        (10**7, 0, {1: 1.0, 2: 0.95}, 1),
        (10**7, 3, {1: 1.0}, 1),
        (10**5, 0, {}, 1),
        (10**8, 1, {}, 3),
    ],
)
def test_a_small_network_gets_as_many_threads_as_make_it_faster(
    n_params: int,
    spare: int,
    seconds: dict[int, float],
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(device, "_THREADS", 4)
    monkeypatch.setattr(device, "least_seconds", lambda step, threads: seconds[threads])
    assert device.measure_threads(lambda: None, n_params, spare=spare) == expected
    assert torch.get_num_threads() == expected
    torch.set_num_threads(before)


def test_what_is_timed_gives_its_threads_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    seen: list[int] = []
    least_seconds(lambda: seen.append(torch.get_num_threads()))
    least_seconds(lambda: seen.append(torch.get_num_threads()), threads=2)
    with pytest.raises(ZeroDivisionError):
        least_seconds(lambda: 1 / 0)
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)
    # One, unless asked for more: a busy machine lets threads wait for each other.
    assert seen == sorted(seen)
    assert set(seen) == {1, 2}


def test_a_model_keeps_its_threads_while_another_runs_on_more(tiny_directory: Path) -> None:
    before = torch.get_num_threads()
    ready = load_model(tiny_directory)
    torch.set_num_threads(3)
    assert ready.use_threads() == torch.get_num_threads() == ready.threads == 1
    torch.set_num_threads(before)


def test_int8_is_not_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="int8 works only on the CPU"):
        device.choose("cuda", "int8")


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (OUT_OF_MEMORY, True),
        (LOST, True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5.4 GiB)"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("CUDA error"), False),
    ],
)
def test_a_lost_gpu_is_told_from_a_mistake(error: Exception, lost: bool) -> None:
    assert device.is_lost(error) == lost


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretends that `cuda` is there; what is loaded onto it lies in the CPU's memory."""
    load = checkpoint.load
    monkeypatch.setattr(
        device,
        "choose",
        lambda where="auto", dtype="auto", *_: (
            ("cpu", "float32") if where == "cpu" else ("cuda", "bfloat16")
        ),
    )
    monkeypatch.setattr(
        checkpoint, "load", lambda directory, where, dtype, **_: load(directory, "cpu", "float32")
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OUT_OF_MEMORY, "has not enough memory"), (LOST, "failed (CUDA error: unspecified launch")],
)
def test_a_gpu_that_cannot_take_a_model_gives_way_to_the_cpu(
    error: Exception, reason: str, tiny_directory: Path, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = checkpoint.load

    def fails(directory: Path, where: str, dtype: str, **how: bool) -> Checkpoint:
        if where == "cuda":
            raise error
        return load(directory, where, dtype, **how)

    monkeypatch.setattr(checkpoint, "load", fails)
    ready = load_model(tiny_directory)
    assert (ready.device, ready.dtype) == ("cpu", "float32")
    assert reason in ready.notice
    assert ready.notice.endswith("the model runs on the CPU")


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pretends that `mps` is there; what is loaded onto it lies in the CPU's memory."""
    load = checkpoint.load
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(
        checkpoint, "load", lambda directory, where, dtype, **_: load(directory, "cpu", "float32")
    )
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def wrong(network: GPT) -> None:
    network.wte.weight[3] *= 1.1


def empty(network: GPT) -> None:
    network.wte.weight.fill_(float("nan"))


def looks_ahead(network: GPT) -> None:
    """Tokens see those that follow in the same chunk."""
    for block in network.h:
        attn: Any = block.attn

        def mix(q: Any, k: Any, v: Any, mask: Any, attn: Any = attn) -> torch.Tensor:
            everything = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool)
            return attention(q, k, v, scale=attn.scale, mask=everything)

        attn.mix = mix


def lacks_an_operator(network: GPT) -> None:
    def fails(*_: Any) -> Any:
        raise NotImplementedError("The operator 'aten::roll' is not implemented for the device.")

    setattr(network.ln_f, "forward", fails)  # noqa: B010


@pytest.mark.parametrize("fault", [wrong, empty, looks_ahead, lacks_an_operator])
def test_a_mac_whose_gpu_computes_something_else_stays_on_the_cpu(
    fault: Callable[[GPT], None],
    tiny_directory: Path,
    mac: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = checkpoint.load

    def loads(directory: Path, where: str, dtype: str, **how: bool) -> Checkpoint:
        loaded = load(directory, where, dtype, **how)
        if where == "mps":
            fault(loaded.model)
        return loaded

    monkeypatch.setattr(checkpoint, "load", loads)
    ready = load_model(tiny_directory)
    assert (ready.device, ready.dtype) == ("cpu", "float32")
    said = "cannot run this model" if fault is lacks_an_operator else "does not compute the CPU's"
    assert said in ready.notice
    assert ready.notice.endswith("the model runs on the CPU")
    exact = load_model(tiny_directory, RunOptions("cpu", "float32"))
    ids = torch.arange(9)[None]
    assert torch.equal(ready.checkpoint.model(ids), exact.checkpoint.model(ids))
    assert (
        load_model(tiny_directory, RunOptions("mps")).device == "mps"
    )  # whoever asks for it gets it


def test_a_mac_whose_gpu_is_right_is_used(tiny_directory: Path, mac: None) -> None:
    ready = load_model(tiny_directory)
    assert (ready.device, ready.dtype, ready.notice) == ("mps", "float32", "")


@pytest.mark.parametrize(
    ("error", "dtype", "agrees"),
    [
        (5e-4, "float32", True),
        (2e-3, "float32", False),
        (2e-3, "bfloat16", True),
        (0.1, "bfloat16", False),
    ],
)
def test_by_how_much_a_device_may_differ(error: float, dtype: str, agrees: bool) -> None:
    network, other = random_model(), random_model()
    original = other.logits
    scaled: Any = lambda hidden: original(hidden) * (1 + error)  # noqa: E731
    other.logits = scaled  # type: ignore[method-assign]
    with nullcontext() if agrees else pytest.raises(device.WrongDeviceError):
        device.check_agrees(other, network, dtype)


def test_a_mistake_of_ours_is_not_taken_for_a_lost_gpu(
    tiny_directory: Path, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> Checkpoint:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(checkpoint, "load", fails)
    with pytest.raises(RuntimeError, match="multiplied"):
        load_model(tiny_directory)


def test_what_to_compile_is_one_of_three(tiny_directory: Path) -> None:
    with pytest.raises(UserError, match="off, auto, on, not 'perhaps'"):
        load_model(tiny_directory, RunOptions(compile="perhaps"))


def failing(monkeypatch: pytest.MonkeyPatch, of: Any, name: str, at: int, error: Any) -> None:
    """Let call number `at` of a method fail, once."""
    method, count = getattr(of, name), 0

    def fails(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            raise error
        return method(*arguments)

    monkeypatch.setattr(of, name, fails)


def test_a_gpu_that_fails_before_the_first_token_is_hardly_noticed(
    tiny_directory: Path, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = {"id": 1, "op": "load", "model": str(tiny_directory)}
    ask = {"id": 2, "op": "generate", "text": "to be", "max_new_tokens": 6}
    whole = Served(load, ask).of(2)
    failing(monkeypatch, Context, "read", 1, OUT_OF_MEMORY)
    served = Served(load, ask)
    assert served.of(1)[-1]["device"] == "cuda"
    notice, *rest = served.of(2)
    assert notice["event"] == "status"
    assert "has not enough memory" in notice["message"]
    assert rest[-1]["device"] == "cpu"
    drawn, expected = (
        [step["token_id"] for line in lines for step in line.get("steps", ())]
        for lines in (rest, whole)
    )
    assert drawn == expected


def test_a_gpu_that_fails_in_mid_stream_keeps_the_text_and_the_next_run_works(
    tiny_directory: Path, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.protocol.reply.BATCH_STEPS", 1)
    load = {"id": 1, "op": "load", "model": str(tiny_directory)}
    ask = {"op": "generate", "text": "to be", "max_new_tokens": 6}
    failing(monkeypatch, ResultBuffer, "get", 3, LOST)
    served = Served(load, {"id": 2, **ask}, {"id": 3, **ask})
    events = [line["event"] for line in served.of(2)]
    assert events == ["steps"] * 3 + ["error"]
    assert "the model runs on the CPU from now on" in served.of(2)[-1]["message"]
    done = served.of(3)[-1]
    assert (done["event"], done["tokens"], done["device"]) == ("done", 6, "cpu")
    drawn = [step["token_id"] for line in served.of(3) for step in line.get("steps", ())]
    before = [step["token_id"] for line in served.of(2) for step in line.get("steps", ())]
    assert drawn[:3] == before
