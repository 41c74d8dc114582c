"""safetensors files, read and written one tensor at a time.

The safetensors library maps a whole file or needs all tensors at once; here only one tensor, or a
piece of it, is in memory. Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from io import RawIOBase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convert.weights import TensorInfo
from gpt.errors import UserError
from gpt.weights.read import PIECE
from gpt.weights.safetensors_header import DTYPES, read_header

_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_WRITE_BYTES = 1 << 20
"""Bytes per write; larger writes are two times slower on Linux's ext4."""
_MAX_UNHASHED = 16
"""Writes whose checksum may still be pending."""


class SafetensorsFile:
    """The tensors of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._header = read_header(path)
        self.tensors = {
            name: TensorInfo(entry.dtype, entry.shape, path) for name, entry in self._header.items()
        }

    def read(self, name: str) -> Tensor:
        """One tensor, in memory of its own."""
        entry = self._header[name]
        if not entry.nbytes:
            return torch.empty(entry.shape, dtype=entry.dtype)
        (data,) = self._read(name, entry.nbytes)
        return data.view(entry.dtype).view(entry.shape)

    def pieces(self, name: str) -> Iterator[Tensor]:
        """The numbers of a tensor in order, at most PIECE at a time, each piece in new memory."""
        dtype = self._header[name].dtype
        for data in self._read(name, PIECE * dtype.itemsize):
            yield data.view(dtype)

    def _read(self, name: str, step: int) -> Iterator[Tensor]:
        """The bytes of a tensor, at most `step` at a time."""
        entry = self._header[name]
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(entry.offset)
                for position in range(0, entry.nbytes, step):
                    data = torch.empty(min(step, entry.nbytes - position), dtype=torch.uint8)
                    _read_into(file, _memory(data))
                    yield data
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Do nothing: the file is open only while a tensor is read."""


def _read_into(file: RawIOBase, memory: memoryview) -> None:
    """Fill memory from a file. An unbuffered file may return fewer bytes than requested."""
    while memory:
        n_bytes = file.readinto(memory)
        if not n_bytes:
            raise UserError(f"{file.name} became shorter while it was read")  # type: ignore[attr-defined]
        memory = memory[n_bytes:]


def _memory(data: Tensor) -> memoryview:
    """The bytes of a uint8 tensor, without a copy."""
    return memoryview(data.numpy())  # type: ignore[arg-type]


Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""The tensors of a file in order → dtype and shape of each."""


def file_size(layout: Layout) -> int:
    """Bytes of the file that `write` will write."""
    sizes = (math.prod(shape) * dtype.itemsize for dtype, shape in layout.values())
    return len(_header_bytes(layout)) + sum(sizes)


def write(path: Path, layout: Layout, pieces: Iterable[Tensor]) -> str:
    """Write a file and return its sha256.

    pieces: the numbers of all tensors in the layout's order and dtypes, in pieces of any size.
    Another thread computes the checksum a few writes later.
    """
    digest = hashlib.sha256()
    unhashed: deque[Future[None]] = deque()
    with path.open("xb", buffering=0) as file, ThreadPoolExecutor(1) as hasher:

        def put(data: memoryview) -> None:
            unhashed.append(hasher.submit(digest.update, data))
            if len(unhashed) > _MAX_UNHASHED:
                unhashed.popleft().result()
            while data:  # an unbuffered file may write fewer bytes than given
                data = data[file.write(data) :]

        put(memoryview(_header_bytes(layout)))
        for piece in pieces:
            # contiguous() on the whole piece: torch transposes a matrix block by block, which is
            # much faster than row by row.
            data = _memory(piece.contiguous().view(-1).view(torch.uint8))
            for begin in range(0, len(data), _WRITE_BYTES):
                put(data[begin : begin + _WRITE_BYTES])
        if file.tell() != file_size(layout):
            raise ValueError(f"{file.tell()} bytes were written, not {file_size(layout)}")
    return digest.hexdigest()


def _header_bytes(layout: Layout) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, (dtype, shape) in layout.items():
        end = position + math.prod(shape) * dtype.itemsize
        header[name] = {
            "dtype": _DTYPE_NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
