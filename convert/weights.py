"""The tensors of a checkpoint, read one at a time from any number of files of any format."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from gpt.errors import UserError


@dataclass(frozen=True)
class TensorInfo:
    """What is known of a tensor without reading it."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    file: Path
    """The file that holds it."""

    @property
    def nbytes(self) -> int:
        """Bytes of its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


class WeightFile(Protocol):
    """One file of tensors."""

    tensors: dict[str, TensorInfo]

    def read(self, name: str) -> Tensor:
        """One tensor."""

    def pieces(self, name: str) -> Iterator[Tensor]:
        """The numbers of a tensor in order, at most PIECE of them at a time."""

    def close(self) -> None:
        """Free the file's memory. A later read opens the file again."""


class Weights:
    """The tensors of several files.

    file_of: tensor → file name, from the index of the shards; None without an index. Refuses
    tensors that are in two files or not in the file that the index names.
    """

    def __init__(self, files: list[WeightFile], file_of: Mapping[str, str] | None = None) -> None:
        self.tensors: dict[str, TensorInfo] = {}
        self._files: dict[str, WeightFile] = {}
        self._last: WeightFile | None = None
        for file in files:
            for name, info in file.tensors.items():
                if name in self.tensors:
                    raise UserError(
                        f"the tensor {name!r} is in {self.tensors[name].file} "
                        f"and in {info.file}; one of them is left over from another checkpoint: "
                        "remove that file"
                    )
                self.tensors[name] = info
                self._files[name] = file
        for name, file_name in (file_of or {}).items():
            if name not in self.tensors or self.tensors[name].file.name != file_name:
                raise UserError(
                    f"the index says that {file_name} holds {name!r}, but it does not; get the "
                    "checkpoint again"
                )

    def read(self, name: str) -> Tensor:
        """One tensor. Only the most recently read file uses memory."""
        return self._open(name).read(name)

    def pieces(self, name: str) -> Iterator[Tensor]:
        """The numbers of a tensor in order, at most PIECE of them at a time."""
        return self._open(name).pieces(name)

    def _open(self, name: str) -> WeightFile:
        file = self._files[name]
        if self._last is not None and self._last is not file:
            self._last.close()
        self._last = file
        return file
