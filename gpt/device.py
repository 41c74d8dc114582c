"""Which device runs the network and in which precision."""

from __future__ import annotations

import torch

from gpt.errors import UserError


def choose(device: str = "auto", dtype: str = "auto") -> tuple[str, str]:
    """Names of the device and of the dtype to use, with `auto` decided.

    auto is CUDA where a GPU is usable and the CPU elsewhere, bfloat16 on a GPU that has it and
    float32 elsewhere. Raises UserError where the device asked for is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device.split(":")[0] == "cuda" and not torch.cuda.is_available():
        raise UserError("there is no usable CUDA device; use --device cpu")
    if dtype == "auto":
        fast = device.startswith("cuda") and torch.cuda.is_bf16_supported()
        dtype = "bfloat16" if fast else "float32"
    return device, dtype
