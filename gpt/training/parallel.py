"""Several processes that train one network, as torchrun starts them.

Data parallelism (PyTorch's DistributedDataParallel): each process reads its share of a batch
and the gradients are averaged, so together they take the step of one process with all of it.
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
    """This process among the others."""

    rank: int = 0
    """Its number; process 0 is the one that speaks and writes."""
    size: int = 1
    """How many there are."""

    def mean(self, value: Tensor) -> Tensor:
        """A number's mean over all processes."""
        if self.size > 1:
            dist.all_reduce(value)
            value /= self.size
        return value

    def any(self, flag: bool) -> bool:
        """Whether it is true in one of them, so that all stop at the same step."""
        if self.size == 1:
            return flag
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        return bool(self.mean(torch.tensor(float(flag), device=device)) > 0)

    def wrap(self, model: nn.Module) -> Any:
        """The network with gradients that are averaged over all processes."""
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
    # Its functions take the group there is at its import as a default argument. Imported later,
    # with the optimizers, it keeps the group and its threads, and such a thread, still letting
    # go of a tensor, aborts the interpreter as it ends.
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Group(dist.get_rank(), size), device
    finally:
        dist.destroy_process_group()
