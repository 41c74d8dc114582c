"""Which device runs the network and in which precision."""

from __future__ import annotations

import re
import time
from typing import Literal

import torch

from gpt.checkpoint import DTYPES
from gpt.errors import UserError

SMALL = 20_000_000
"""Multiplications of a pass under which a second thread costs more than it saves."""
_THREADS = torch.get_num_threads()
"""What torch begins with: a thread a core, or OMP_NUM_THREADS."""


def use_threads(n_params: int, n_tokens: int = 1) -> None:
    """One thread for a small pass, as many as torch finds cores for a large one.

    n_tokens: how many go through the network at once. Small matrices are over before a second
    core has begun; threads would only wait for each other, and much longer where another
    program, as the interface, needs a core as well.
    """
    torch.set_num_threads(1 if n_params * n_tokens < SMALL else _THREADS)


def fast_precision(device: torch.device) -> Literal["float32", "bfloat16"]:
    """In which of the two a large product takes less time, measured on a CPU, known of GPUs."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"

    def seconds(dtype: torch.dtype) -> float:
        a = torch.ones(512, 512, dtype=dtype, device=device)
        times = []
        for _ in range(4):
            started = time.perf_counter()
            a @ a
            times.append(time.perf_counter() - started)
        return min(times)

    return "bfloat16" if seconds(torch.bfloat16) < seconds(torch.float32) else "float32"


def choose(device: str = "auto", dtype: str = "auto") -> tuple[str, str]:
    """Names of the device and of the dtype to use, with `auto` decided.

    auto is CUDA where a GPU is usable and the CPU elsewhere, bfloat16 on a GPU that has it and
    float32 elsewhere. Raises UserError where the device asked for is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UserError(f"there is no device {device!r}; use auto, cpu or cuda")
    if device != "cpu":
        wanted = int(device.partition(":")[2] or 0)
        if wanted >= torch.cuda.device_count():
            raise UserError(f"there is no usable CUDA device {wanted}; use --device cpu")
    if dtype == "auto":
        fast = device.startswith("cuda") and torch.cuda.is_bf16_supported()
        dtype = "bfloat16" if fast else "float32"
    if dtype not in DTYPES:
        raise UserError(f"there is no dtype {dtype!r}; use auto, {', '.join(DTYPES)}")
    return device, dtype
