"""Chooses the device that runs the network, its dtype and the number of threads."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import torch

from gpt.compiler import compiler
from gpt.errors import UserError
from gpt.model import GPT
from gpt.models import MEMORY_DTYPES
from gpt.nearest import did_you_mean
from gpt.weights.products import packed_is_faster
from gpt.weights.quantize import PACKED, Matrix
from gpt.weights.timing import least_seconds

SMALL_PASS = 20_000_000
"""Multiplications in a pass. With fewer, a second thread may cost more than it saves."""
CACHED_PARAMS = 1_000_000
"""Parameters that stay in a core's own cache, so that smaller dtypes are not faster."""
MOST_DIVERGENCE = 1e-3
"""Nats a token that a dtype may cost to be chosen without being asked for."""
_THREADS = torch.get_num_threads()
"""Threads that torch starts with: one for each physical core, or OMP_NUM_THREADS."""
_MOST_THREADS = 1024
_SLOWEST_EAGER = 4
"""Most times as long as in float32 that an eager product may take, if code will be compiled."""
_DOUBLING_PAYS = 0.9
"""Largest share of its time that a pass may take after doubling the threads."""
_TEST_TOKENS = 17
"""Tokens in the text with which a device is tested."""
TOLERANCES = {"float32": 1e-3}
"""Largest difference between logits of another device and the CPU, relative to their spread."""
TOLERANCE_ROUNDED = 0.05
"""The largest such difference for dtypes that round more."""
_GPU_ERROR = r"(CUDA|cuBLAS|CUDNN|cuDNN|HIP|MPS)\b.*(error|out of memory)|No CUDA GPUs"
"""Start of the messages of RuntimeErrors that say that a GPU failed."""


def use_threads(
    n_params: int, n_tokens: int = 1, *, wanted: int | None = None, spare: int = 0
) -> int:
    """Set torch's number of threads and return it: 1 for a small pass, all cores for a large one.

    Small products end before a second core has started, so more threads would only wait for each
    other; they wait much longer if another program, such as the interface, needs a core too.

    Args:
        n_tokens: tokens that go through the network at once.
        wanted: a number of threads to use instead.
        spare: cores to leave to another program.
    """
    if wanted is not None and not 1 <= wanted <= _MOST_THREADS:
        raise UserError(f"--threads is {wanted}; it must be from 1 to {_MOST_THREADS}")
    chosen = wanted or (1 if n_params * n_tokens < SMALL_PASS else max(1, _THREADS - spare))
    torch.set_num_threads(chosen)
    return chosen


def measure_threads(step: Callable[[], object], n_params: int, *, spare: int) -> int:
    """Set the number of threads for a loaded network and return it; for a small one, measure it.

    The number is doubled as long as that is faster. How well cores work together differs between
    processors.

    Args:
        step: runs the network for one token.
        spare: cores to leave to another program.
    """
    if not CACHED_PARAMS <= n_params < SMALL_PASS:
        return use_threads(n_params, spare=spare)
    best, best_seconds = 1, math.inf
    for n in (1, 2, 4, 8):
        if n > max(1, _THREADS - spare):
            break
        if (seconds := least_seconds(step, threads=n)) > _DOUBLING_PAYS * best_seconds:
            break
        best, best_seconds = n, seconds
    return use_threads(n_params, wanted=best)


def fast_precision(device: torch.device) -> Literal["float32", "bfloat16"]:
    """The dtype in which a large product is faster: measured on a CPU, known for GPUs."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"

    def seconds(dtype: torch.dtype) -> float:
        a = torch.ones(512, 512, dtype=dtype, device=device)
        return least_seconds(lambda: a @ a)

    return "bfloat16" if seconds(torch.bfloat16) < seconds(torch.float32) else "float32"


def fast_storage(dtype: str) -> bool:
    """Whether this CPU draws tokens faster with weights of that dtype than with float32.

    It is measured for one position, because not every processor has instructions for the dtype.
    Compiled code is faster with it, so if there is a C++ compiler, the eager network, which reads
    the prompt, may be a little slower. Without a compiler the eager network must be faster.
    """

    def seconds(dtype: str) -> float:
        x, matrix = torch.ones(1, 1024), Matrix(4096, 1024, dtype)
        for tensor in matrix.parameters():
            tensor.zero_()
        return least_seconds(lambda: matrix.product(x))

    with torch.inference_mode():
        packed = dtype == "int8" and not compiler() and packed_is_faster()
        times = _SLOWEST_EAGER if compiler() else 1
        return seconds(PACKED if packed else dtype) < seconds("float32") * times


def choose(
    device: str = "auto",
    dtype: str = "auto",
    n_params: int = 0,
    divergence: Mapping[str, float | None] = MappingProxyType({}),
) -> tuple[str, str]:
    """The device and the dtype to use, by name, after deciding `auto`.

    The device auto is CUDA if there is a usable GPU, else MPS on a Mac (if `check_agrees` later
    finds no fault), else the CPU. The dtype auto is bfloat16 on a CUDA GPU that has it, float32 on
    other GPUs. On a CPU it is the smallest one that costs this model at most MOST_DIVERGENCE, but
    not int8 for a small network, and float32 if the network is tiny or `fast_storage` finds float32
    faster. A device that is not available is refused.

    divergence: what each dtype costs the model, as Manifest.divergence; a dtype that is not in it
    is used as if it cost nothing.
    """
    if device == "auto":
        gpu = "mps" if torch.backends.mps.is_available() else "cpu"
        device = "cuda" if torch.cuda.is_available() else gpu
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        near = did_you_mean(device, ("auto", "cpu", "cuda", "mps"))
        raise UserError(f"there is no device {device!r}; use auto, cpu, cuda or mps{near}")
    if device == "mps" and not torch.backends.mps.is_available():
        raise UserError("there is no usable MPS device; use --device cpu")
    if device.startswith("cuda"):
        wanted = int(device.partition(":")[2] or 0)
        if wanted >= torch.cuda.device_count():
            raise UserError(f"there is no usable CUDA device {wanted}; use --device cpu")
    if device != "cpu" and dtype in ("int8", "int4"):
        raise UserError(f"{dtype} works only on the CPU; for a GPU use --dtype bfloat16")
    if dtype == "auto" and device == "cpu":
        small = (
            ("int8", "float16", "bfloat16") if n_params >= SMALL_PASS else ("float16", "bfloat16")
        )
        costs = {name: divergence.get(name, 0.0) for name in small}
        cheap = (n for n, cost in costs.items() if cost is not None and cost <= MOST_DIVERGENCE)
        dtype = next(cheap, "float32")
        if n_params < CACHED_PARAMS or (dtype != "float32" and not fast_storage(dtype)):
            dtype = "float32"
    elif dtype == "auto":
        fast = device.startswith("cuda") and torch.cuda.is_bf16_supported()
        dtype = "bfloat16" if fast else "float32"
    if dtype not in MEMORY_DTYPES:
        raise UserError(f"there is no dtype {dtype!r}; use auto, {', '.join(MEMORY_DTYPES)}")
    return device, dtype


class WrongDeviceError(RuntimeError):
    """A device does not compute the same numbers as the CPU."""


@torch.inference_mode()
def check_agrees(model: GPT, exact: GPT, dtype: str) -> None:
    """Raise WrongDeviceError if a model's logits differ from those of the same model on the CPU.

    For a short text, the difference may be as large as TOLERANCES says, relative to the spread of
    the logits. exact: the model in float32 on the CPU.
    """
    name = model.wte.weight.device.type.upper()
    expected = _centred_logits(exact)
    try:
        error = float((_centred_logits(model) - expected).norm() / expected.norm())
    except NotImplementedError as missing:  # the device lacks an operator
        raise WrongDeviceError(f"{name} cannot run this model") from missing
    if not error <= TOLERANCES.get(dtype, TOLERANCE_ROUNDED):  # also true for NaN
        raise WrongDeviceError(
            f"{name} does not compute the CPU's numbers (they differ by {error:.1%})"
        )


def _centred_logits(model: GPT) -> torch.Tensor:
    """Logits (n, V) of a short text minus their mean. It is read in two chunks and one token."""
    V, n = model.config.vocab_size, min(_TEST_TOKENS, model.config.block_size)
    ids = (torch.arange(n)[None] * 7919 % V).to(model.wte.weight.device)  # (1, n)
    cache = model.new_cache()
    chunks = [model(chunk, cache) for chunk in torch.split(ids, n // 2 or 1, dim=1)]
    logits = torch.cat(chunks, dim=1)[0].float().cpu()
    return logits - logits.mean(-1, keepdim=True)


def is_lost(error: BaseException) -> bool:
    """Whether an error says that a GPU is wrong, full or gone; any other one is a bug."""
    if isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError | WrongDeviceError):
        return True
    return isinstance(error, RuntimeError) and bool(re.match(_GPU_ERROR, str(error)))


def describe(error: BaseException) -> str:
    """A few words for a person about an error for which `is_lost` is true."""
    if isinstance(error, WrongDeviceError):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error):
        return "the GPU has not enough memory"
    return f"the GPU failed ({str(error).partition(chr(10))[0][:100]})"
