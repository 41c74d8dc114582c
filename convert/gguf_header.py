"""The header of a GGUF file: its metadata, and where its tensors are.

The reader of the `gguf` package trusts the counts in a file: an array that claims 2^60 elements
keeps it busy without end. Here every count, size and offset is compared with the size of the file
first. Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from gpt.errors import UserError

MAGIC = b"GGUF"
TYPES = (
    *("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"),
    *("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"),
)
"""Types of tensors that are read, by llama.cpp's names."""
_VERSIONS = (2, 3)
_MAX_HEADER_BYTES = 1 << 26
"""Real headers have at most 20 MB, nearly all of it tokens and merges."""
_MAX_TEXT_BYTES = 1 << 22
_MAX_ELEMENTS = 1 << 21
"""Most elements of all arrays together."""
_MAX_COUNT = 1 << 16
"""Most metadata, and most tensors."""
_MAX_NAME_BYTES = 1 << 10
_MAX_DIMENSIONS = 4
_SCALARS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
"""Number of a type of metadata → its code in struct and numpy."""
_TEXT, _ARRAY = 8, 9


@dataclass(frozen=True)
class Entry:
    """A tensor of a GGUF file."""

    kind: str
    """One of TYPES."""
    shape: tuple[int, ...]
    """As in PyTorch: GGUF itself names the innermost dimension first."""
    offset: int
    """Where its bytes begin in the file."""
    block: tuple[int, int]
    """Numbers that are packed together, and the bytes they take."""

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) // self.block[0] * self.block[1]


@dataclass(frozen=True)
class Header:
    """Everything in a GGUF file except the numbers."""

    path: Path
    metadata: dict[str, Any]
    """Key → a number, a text, true or false, or a list of one of these."""
    tensors: dict[str, Entry]


def read_header(path: Path) -> Header:
    """Read and check a header. Every tensor lies within the file and no two overlap."""
    try:
        with path.open("rb") as file:
            return _read_header(path, _Cursor(path, file))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _read_header(path: Path, cursor: _Cursor) -> Header:
    if cursor.take(4) != MAGIC:
        raise UserError(f"{path} is not a GGUF file")
    version = cursor.number("I")
    if version & 0xFFFF == 0:
        raise UserError(f"{path} was written for big-endian machines; get the usual GGUF file")
    if version not in _VERSIONS:
        raise UserError(
            f"{path} has version {version} of GGUF; convert reads versions 2 and 3: get a newer "
            "file of the model"
        )
    n_tensors, n_values = cursor.count("tensors"), cursor.count("metadata")
    metadata: dict[str, Any] = {}
    for _ in range(n_values):
        key = cursor.text(_MAX_NAME_BYTES)
        if key in metadata:
            raise cursor.damaged(f"the metadata {key[:100]!r} are there twice")
        metadata[key] = cursor.value(cursor.number("I"))
    found: dict[str, tuple[int, tuple[int, ...], int]] = {}
    for _ in range(n_tensors):
        name = cursor.text(_MAX_NAME_BYTES)
        if name in found:
            raise cursor.damaged(f"the tensor {name[:100]!r} is there twice")
        n_dimensions = cursor.number("I")
        if not 1 <= n_dimensions <= _MAX_DIMENSIONS:
            raise cursor.damaged(f"{name[:100]!r} has {n_dimensions} dimensions")
        dimensions = tuple(cursor.number("Q") for _ in range(n_dimensions))
        found[name] = (cursor.number("I"), dimensions[::-1], cursor.number("Q"))
    begin = cursor.aligned(metadata.get("general.alignment", 32))
    tensors = {
        name: _entry(cursor, name, kind, shape, begin + offset)
        for name, (kind, shape, offset) in found.items()
    }
    _refuse_overlaps(cursor, tensors)
    return Header(path, metadata, tensors)


def _entry(cursor: _Cursor, name: str, number: int, shape: tuple[int, ...], offset: int) -> Entry:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    numbers = {kind.value: kind for kind in GGMLQuantizationType}
    kind = numbers[number].name if number in numbers else f"of the unknown type {number}"
    if kind not in TYPES:
        raise UserError(
            f"{name[:100]!r} in {cursor.path} is {kind}; convert reads {', '.join(TYPES)}: get a "
            "file of the model in one of these types"
        )
    block = GGML_QUANT_SIZES[numbers[number]]
    if 0 in shape or shape[-1] % block[0]:
        raise cursor.damaged(f"{name[:100]!r} has rows of {shape[-1]}, which {kind} cannot have")
    entry = Entry(kind, shape, offset, block)
    if offset + entry.nbytes > cursor.size:
        raise cursor.damaged(f"{name[:100]!r} reaches beyond its end")
    return entry


def _refuse_overlaps(cursor: _Cursor, tensors: dict[str, Entry]) -> None:
    """Refuse shared bytes, with which a small file could become a checkpoint of any size."""
    end = 0
    for name, entry in sorted(tensors.items(), key=lambda item: item[1].offset):
        if entry.offset < end:
            raise cursor.damaged(f"{name[:100]!r} shares bytes with another tensor")
        end = entry.offset + entry.nbytes


class _Cursor:
    """A place in a file. It never reads or allocates more than the file can hold."""

    def __init__(self, path: Path, file: BufferedReader) -> None:
        self.path = path
        self.size = os.fstat(file.fileno()).st_size
        self._file = file
        self._position = 0
        self._elements = 0

    def damaged(self, reason: str) -> UserError:
        """The error for a header that cannot be right."""
        return UserError(f"{self.path} is damaged: {reason}; get the file again")

    def take(self, n_bytes: int) -> bytes:
        """The next bytes."""
        if n_bytes > self.size - self._position:
            raise self.damaged("it ends within its header")
        if self._position + n_bytes > _MAX_HEADER_BYTES:
            raise self.damaged(f"its header has more than {_MAX_HEADER_BYTES >> 20} MB")
        data = self._file.read(n_bytes)
        if len(data) != n_bytes:
            raise self.damaged("it became shorter while it was read")
        self._position += n_bytes
        return data

    def number(self, code: str) -> Any:
        """A number, by its code in struct. A float32 becomes the shortest equal decimal."""
        (value,) = struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))
        return float(str(np.float32(value))) if code == "f" else value

    def count(self, what: str) -> int:
        """How many metadata or tensors follow."""
        found: int = self.number("Q")
        if found > _MAX_COUNT:
            raise self.damaged(f"it claims {found:,} {what}; at most {_MAX_COUNT:,} are possible")
        return found

    def text(self, most: int = _MAX_TEXT_BYTES) -> str:
        """A text of at most this many bytes."""
        n_bytes = self.number("Q")
        if n_bytes > most:
            raise self.damaged(f"a text in its header claims {n_bytes:,} bytes")
        try:
            return self.take(n_bytes).decode()
        except UnicodeDecodeError:
            raise self.damaged("a text in its header is not UTF-8") from None

    def value(self, kind: int) -> Any:
        """A value of the metadata, by the number of its type."""
        if kind == _TEXT:
            return self.text()
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind != _ARRAY:
            raise self.damaged(f"its metadata have the unknown type {kind}")
        kind, length = self.number("I"), self.number("Q")
        self._elements += length
        if self._elements > _MAX_ELEMENTS:
            raise self.damaged(f"an array in its header claims {length:,} elements")
        if kind == _TEXT:
            return [self.text() for _ in range(length)]
        if kind not in _SCALARS:
            raise self.damaged(f"an array in its header has elements of the unknown type {kind}")
        dtype = np.dtype(_SCALARS[kind]).newbyteorder("<")
        return np.frombuffer(self.take(length * dtype.itemsize), dtype).tolist()

    def aligned(self, alignment: Any) -> int:
        """Where the numbers begin: the next multiple of the alignment."""
        if type(alignment) is not int or not 0 < alignment <= _MAX_COUNT:
            raise self.damaged("general.alignment is not a sensible number")
        return -(-self._position // alignment) * alignment
