"""Which device runs the network and in which precision."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Callable
from typing import Literal

import torch

from gpt.errors import UserError
from gpt.model import GPT
from gpt.weights.packed_int8 import pack
from gpt.weights.quantize import DTYPES, packing_pays, product, quantize
from gpt.weights.timing import least_seconds

SMALL = 20_000_000
"""Multiplications of a pass under which a second thread may cost more than it saves."""
TINY = 1_000_000
"""Weights that stay in a core's own cache, where fewer bytes gain nothing."""
_THREADS = torch.get_num_threads()
"""What torch begins with: a thread a physical core, or OMP_NUM_THREADS."""
_MOST_THREADS = 1024
_MUCH = 4
"""Times as slow as float32 an eager product may be where compiled code draws the tokens."""
_PAYS = 0.9
"""At most this share of the time a pass may take on twice as many threads."""
_SHORT = 17
"""Tokens of the text on which a device is tried."""
AGREES = {"float32": 1e-3}
"""By how much, relative to the spread of the logits, another device may differ from the CPU."""
AGREES_ROUNDED = 0.05
"""The same for dtypes that round."""
_LOST = r"(CUDA|cuBLAS|CUDNN|cuDNN|HIP|MPS)\b.*(error|out of memory)|No CUDA GPUs"
"""How messages begin that torch raises as plain RuntimeErrors."""


def use_threads(
    n_params: int, n_tokens: int = 1, *, wanted: int | None = None, spare: int = 0
) -> int:
    """One thread for a small pass, as many as torch finds cores for a large one.

    n_tokens: how many go through the network at once. Small matrices are over before a second
    core has begun; threads would only wait for each other, and much longer where another
    program, as the interface, needs a core as well; spare: cores to leave to such a one. wanted:
    this number instead. Returns how many it is now. Raises UserError for a senseless number.
    """
    if wanted is not None and not 1 <= wanted <= _MOST_THREADS:
        raise UserError(f"--threads is from 1 to {_MOST_THREADS}, not {wanted}")
    chosen = wanted or (1 if n_params * n_tokens < SMALL else max(1, _THREADS - spare))
    torch.set_num_threads(chosen)
    return chosen


def measure_threads(step: Callable[[], object], n_params: int, *, spare: int) -> int:
    """Like `use_threads`, for a network that is loaded: for a small one, how many is measured.

    Their number is doubled while that pays; how well cores share what they read and wait for
    each other differs between processors. step: one token through the network.
    """
    if not TINY <= n_params < SMALL:
        return use_threads(n_params, spare=spare)
    best, taken = 1, math.inf
    for n in (1, 2, 4, 8):
        if n > max(1, _THREADS - spare):
            break
        if (seconds := least_seconds(step, threads=n)) > _PAYS * taken:
            break
        best, taken = n, seconds
    return use_threads(n_params, wanted=best)


def fast_precision(device: torch.device) -> Literal["float32", "bfloat16"]:
    """In which of the two a large product takes less time, measured on a CPU, known of GPUs."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"

    def seconds(dtype: torch.dtype) -> float:
        a = torch.ones(512, 512, dtype=dtype, device=device)
        return least_seconds(lambda: a @ a)

    return "bfloat16" if seconds(torch.bfloat16) < seconds(torch.float32) else "float32"


def fast_storage(dtype: str) -> bool:
    """Whether this CPU draws tokens faster from weights of that dtype than from float32.

    Compiled code does, so with a C++ compiler it is enough that the eager network, which reads
    the prompt, is not much slower; without one it has to be faster. Measured, for one position:
    not every processor has instructions for it.
    """

    def seconds(weight: torch.Tensor, scale: torch.Tensor | None) -> float:
        x = torch.ones(1, weight.size(1))
        return least_seconds(lambda: product(x, weight, scale))

    with torch.inference_mode():
        exact = torch.ones(4096, 1024)
        stored, scale = quantize(exact) if dtype == "int8" else (exact.to(DTYPES[dtype]), None)
        if dtype == "int8" and not compiler() and packing_pays():
            stored = pack(stored)
        return seconds(stored, scale) < seconds(exact, None) * (_MUCH if compiler() else 1)


def compiler() -> str | None:
    """The C++ compiler that would be used, or None."""
    names = [os.environ.get("CXX", ""), "g++", "clang++"]
    return next((found for name in names if name and (found := shutil.which(name))), None)


def choose(device: str = "auto", dtype: str = "auto", n_params: int = 0) -> tuple[str, str]:
    """Names of the device and of the dtype to use, with `auto` decided.

    auto is CUDA where such a GPU is usable, with bfloat16 where it has it, MPS with float32 on a
    Mac, if `check_agrees` finds nothing wrong later, and the CPU elsewhere: with int8 for a large
    network, float16 for a small one, float32 where `fast_storage` is not. Raises UserError where
    what was asked for is not there.
    """
    if device == "auto":
        gpu = "mps" if torch.backends.mps.is_available() else "cpu"
        device = "cuda" if torch.cuda.is_available() else gpu
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise UserError(f"there is no device {device!r}; use auto, cpu, cuda or mps")
    if device == "mps" and not torch.backends.mps.is_available():
        raise UserError("there is no usable MPS device; use --device cpu")
    if device.startswith("cuda"):
        wanted = int(device.partition(":")[2] or 0)
        if wanted >= torch.cuda.device_count():
            raise UserError(f"there is no usable CUDA device {wanted}; use --device cpu")
    if device != "cpu" and dtype == "int8":
        raise UserError("int8 is for the CPU; a GPU is fast with --dtype bfloat16")
    if dtype == "auto" and device == "cpu":
        stored = "float16" if n_params < SMALL else "int8"
        dtype = stored if n_params >= TINY and fast_storage(stored) else "float32"
    elif dtype == "auto":
        fast = device.startswith("cuda") and torch.cuda.is_bf16_supported()
        dtype = "bfloat16" if fast else "float32"
    if dtype not in DTYPES:
        raise UserError(f"there is no dtype {dtype!r}; use auto, {', '.join(DTYPES)}")
    return device, dtype


class WrongDeviceError(RuntimeError):
    """A device does not compute what the CPU does."""


@torch.inference_mode()
def check_agrees(model: GPT, exact: GPT, dtype: str) -> None:
    """Raise WrongDeviceError if a model's logits are not those of the same one on the CPU.

    exact: in float32 on the CPU. The logits of a short text may differ by AGREES of dtype,
    relative to their spread.
    """
    name = model.wte.weight.device.type.upper()
    expected = _centred_logits(exact)
    try:
        error = float((_centred_logits(model) - expected).norm() / expected.norm())
    except NotImplementedError as missing:  # an operator that the device does not have
        raise WrongDeviceError(f"{name} cannot run this model") from missing
    if not error <= AGREES.get(dtype, AGREES_ROUNDED):  # NaN does not agree either
        raise WrongDeviceError(
            f"{name} does not compute the CPU's numbers (they differ by {error:.1%})"
        )


def _centred_logits(model: GPT) -> torch.Tensor:
    """Of a short text, which is read as texts are: a chunk, one after it, one token; (n, V)."""
    V, n = model.config.vocab_size, min(_SHORT, model.config.block_size)
    ids = (torch.arange(n)[None] * 7919 % V).to(model.wte.weight.device)  # (1, n)
    cache = model.new_cache()
    chunks = [model(chunk, cache) for chunk in torch.split(ids, n // 2 or 1, dim=1)]
    logits = torch.cat(chunks, dim=1)[0].float().cpu()
    return logits - logits.mean(-1, keepdim=True)


def is_lost(error: BaseException) -> bool:
    """Whether an error says that a GPU is wrong, full or gone, and not that we made a mistake."""
    if isinstance(error, torch.OutOfMemoryError | torch.AcceleratorError | WrongDeviceError):
        return True
    return isinstance(error, RuntimeError) and bool(re.match(_LOST, str(error)))


def describe(error: BaseException) -> str:
    """The same for people."""
    if isinstance(error, WrongDeviceError):
        return str(error)
    if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error):
        return "the GPU has not enough memory"
    return f"the GPU failed ({str(error).partition(chr(10))[0][:100]})"
