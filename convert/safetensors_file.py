"""safetensors files, read and written one tensor at a time.

The safetensors library maps a whole file or wants all tensors at once; here only the tensor
in hand is in memory. Format: https://github.com/huggingface/safetensors#format
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
from typing import Any, BinaryIO

import torch
from torch import Tensor

from convert.weights import PIECE, Info
from gpt.errors import UserError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_LONGEST_HEADER = 100_000_000
_AT_ONCE = 1 << 20
"""Bytes that are written at a time; in larger portions Linux's ext4 is two times slower."""
_BEHIND = 16
"""Portions that may wait for their checksum."""


class SafetensorsFile:
    """The tensors of one file. Raises UserError where its header is not sound."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tensors: dict[str, Info] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        try:
            with path.open("rb") as file:
                self._read_header(file)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        except UserError as error:
            raise UserError(f"{path} is no sound safetensors file: {error}") from error

    def read(self, name: str) -> Tensor:
        """One tensor, in memory of its own."""
        info, (begin, end) = self.tensors[name], self._spans[name]
        if begin == end:
            return torch.empty(info.shape, dtype=info.dtype)
        (found,) = self._read(begin, end, end - begin)
        return found.view(info.dtype).view(info.shape)

    def pieces(self, name: str) -> Iterator[Tensor]:
        """The same numbers in order, at most PIECE at a time, each in memory of its own."""
        info, (begin, end) = self.tensors[name], self._spans[name]
        for piece in self._read(begin, end, PIECE * info.dtype.itemsize):
            yield piece.view(info.dtype)

    def _read(self, begin: int, end: int, step: int) -> Iterator[Tensor]:
        """The bytes between two places of the file, so many at a time."""
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(begin)
                for position in range(begin, end, step):
                    data = torch.empty(min(step, end - position), dtype=torch.uint8)
                    _fill(file, _memory(data))
                    yield data
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror}") from error

    def close(self) -> None:
        """Nothing is open between two tensors."""

    def _read_header(self, file: BinaryIO) -> None:
        size = self.path.stat().st_size
        if size < 8:
            raise UserError(f"it has only {size} bytes")
        (length,) = struct.unpack("<Q", file.read(8))
        if length > _LONGEST_HEADER or length > size - 8:
            raise UserError(f"its header claims {length} of the file's {size} bytes")
        try:
            header = json.loads(file.read(length), object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError) as error:
            raise UserError(f"its header is no JSON ({error})") from error
        if not isinstance(header, dict):
            raise UserError("its header is no table of tensors")
        header.pop("__metadata__", None)
        for name, entry in header.items():
            self.tensors[name], self._spans[name] = self._entry(name, entry)
        position = 0
        for name, (begin, end) in sorted(self._spans.items(), key=lambda item: item[1]):
            if begin != position:
                raise UserError(f"there is a gap or an overlap before the tensor {name!r}")
            position = end
        if position != size - 8 - length:
            raise UserError(f"its tensors have {position} bytes and the file {size - 8 - length}")
        for name, (begin, end) in self._spans.items():
            self._spans[name] = (begin + 8 + length, end + 8 + length)

    def _entry(self, name: str, entry: Any) -> tuple[Info, tuple[int, int]]:
        try:
            kind, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(f"the tensor {name!r} has no proper entry") from error
        if not isinstance(kind, str) or kind not in DTYPES:
            raise UserError(f"the tensor {name!r} has the unknown dtype {kind!r}")
        if not isinstance(shape, list) or not all(map(_is_size, [*shape, begin, end])):
            raise UserError(f"the tensor {name!r} has a size that is no size")
        if len(shape) > 8 or not _is_size(math.prod(length or 1 for length in shape)):
            raise UserError(f"the tensor {name!r} has a shape that no tensor has")
        if math.prod(shape) * DTYPES[kind].itemsize != end - begin:
            raise UserError(f"the tensor {name!r} does not fill the bytes that it claims")
        return Info(DTYPES[kind], tuple(shape), self.path), (begin, end)


def _fill(file: RawIOBase, memory: memoryview) -> None:
    """Read as many bytes as there is room for; a raw file may give less than that at once."""
    while memory:
        n_bytes = file.readinto(memory)
        if not n_bytes:
            raise UserError(f"{file.name} became shorter while it was read")  # type: ignore[attr-defined]
        memory = memory[n_bytes:]


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**62


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{twice!r} is in its header twice")
    return found


def _memory(data: Tensor) -> memoryview:
    """The bytes of a uint8 tensor, without a copy."""
    return memoryview(data.numpy())  # type: ignore[arg-type]


Layout = Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
"""The tensors of a file in their order: dtype and shape of each."""


def file_size(layout: Layout) -> int:
    """Bytes that `write` will write."""
    sizes = (math.prod(shape) * dtype.itemsize for dtype, shape in layout.values())
    return len(_header(layout)) + sum(sizes)


def write(path: Path, layout: Layout, pieces: Iterable[Tensor]) -> str:
    """Write tensors whose numbers come in order, in any pieces, in their dtypes.

    Another thread computes the checksum, a few portions behind. Returns the file's sha256.
    """
    digest = hashlib.sha256()
    behind: deque[Future[None]] = deque()
    with path.open("xb", buffering=0) as file, ThreadPoolExecutor(1) as other:

        def put(data: memoryview) -> None:
            behind.append(other.submit(digest.update, data))
            if len(behind) > _BEHIND:
                behind.popleft().result()
            while data:  # a raw file may take less than it is given
                data = data[file.write(data) :]

        put(memoryview(_header(layout)))
        for piece in pieces:
            # As a whole, because torch transposes whole matrices block by block, much faster.
            data = _memory(piece.contiguous().view(-1).view(torch.uint8))
            for begin in range(0, len(data), _AT_ONCE):
                put(data[begin : begin + _AT_ONCE])
        if file.tell() != file_size(layout):
            raise ValueError(f"{file.tell()} bytes are not what was announced")
    return digest.hexdigest()


def _header(layout: Layout) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, (dtype, shape) in layout.items():
        end = position + math.prod(shape) * dtype.itemsize
        header[name] = {
            "dtype": _NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text
