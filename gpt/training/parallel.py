"""Train one network in several processes that torchrun starts.

This is data parallelism (PyTorch's DistributedDataParallel): each process reads its share of a
batch and the gradients are averaged. Together they do the step of one process with the whole batch.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Group:
    """The processes that train together, seen from one of them."""

    rank: int = 0
    """Number of this process. Only process 0 prints and writes files."""
    size: int = 1
    """Number of processes."""

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a number over all processes."""
        if self.size > 1:
            dist.all_reduce(value)
            value /= self.size
        return value

    def any(self, flag: bool) -> bool:
        """Whether the flag is true in any process, so that all stop at the same step."""
        if self.size == 1:
            return flag
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        return bool(self.mean(torch.tensor(float(flag), device=device)) > 0)

    def wrap(self, model: nn.Module) -> Any:
        """The network, with gradients that are averaged over all processes."""
        return nn.parallel.DistributedDataParallel(model) if self.size > 1 else model


@contextmanager
def started_group(device: str) -> Iterator[tuple[Group, str]]:
    """The group that torchrun's environment variables describe, and this process's device."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group(), device
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    # The functions of this module have the group that exists at its import as a default argument.
    # If it were imported later, with the optimizers, it would keep our group and its threads
    # alive. A thread that still frees a tensor aborts the interpreter at its end.
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Group(dist.get_rank(), size), device
    finally:
        dist.destroy_process_group()
