"""Which device runs the network and in which precision."""

from __future__ import annotations

import os
import re

import torch

from gpt.checkpoint import DTYPES
from gpt.errors import UserError

SMALL = 20_000_000
"""Parameters under which a second thread costs a token more than it saves."""


def use_threads(n_params: int) -> None:
    """One thread for a small network, as many as torch finds cores for a large one.

    The matrices of a small network are over before a second core has begun; threads would only
    wait for each other, and much longer where the interface needs a core as well.
    """
    torch.set_num_threads(1 if n_params < SMALL else os.cpu_count() or 1)


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
