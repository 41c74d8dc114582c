"""The tensors of a checkpoint, whatever files they lie in, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from gpt.errors import UserError

PIECE = 1 << 18
"""Numbers of a tensor that are in memory at a time; few enough for a processor's cache."""


@dataclass(frozen=True)
class Info:
    """What is known of a tensor without reading it."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    file: Path
    """Where it lies."""

    @property
    def nbytes(self) -> int:
        """Size of its numbers."""
        size = self.dtype.itemsize
        for length in self.shape:
            size *= length
        return size


class WeightFile(Protocol):
    """One file of tensors."""

    tensors: dict[str, Info]

    def read(self, name: str) -> Tensor:
        """One tensor."""

    def pieces(self, name: str) -> Iterator[Tensor]:
        """The same numbers in order, at most PIECE at a time."""

    def close(self) -> None:
        """Give its memory back; reading again opens it again or fails."""


class Weights:
    """The tensors of all files together.

    declared: tensor → file name, from an index; None where there is none. Raises UserError
    where a tensor is in two files or not in the file that the index says.
    """

    def __init__(self, files: list[WeightFile], declared: Mapping[str, str] | None = None) -> None:
        self.tensors: dict[str, Info] = {}
        self._file_of: dict[str, WeightFile] = {}
        self._current: WeightFile | None = None
        for file in files:
            for name, info in file.tensors.items():
                if name in self.tensors:
                    raise UserError(
                        f"the tensor {name!r} is in {self.tensors[name].file} "
                        f"and in {info.file}; one of them is left over from another checkpoint"
                    )
                self.tensors[name] = info
                self._file_of[name] = file
        for name, place in (declared or {}).items():
            if name not in self.tensors or self.tensors[name].file.name != place:
                raise UserError(f"the index says that {place} holds {name!r}, but it does not")

    def read(self, name: str) -> Tensor:
        """One tensor. Only the file that was read last keeps memory."""
        return self._open(name).read(name)

    def pieces(self, name: str) -> Iterator[Tensor]:
        """The same numbers in order, at most PIECE at a time."""
        return self._open(name).pieces(name)

    def _open(self, name: str) -> WeightFile:
        file = self._file_of[name]
        if self._current not in (None, file):
            self._current.close()
        self._current = file
        return file
