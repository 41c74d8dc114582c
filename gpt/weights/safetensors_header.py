"""The header of a safetensors file: name, dtype, shape and offset of every tensor.

This reader is strict, because files come from strangers. It accepts only what the safetensors
library accepts too: tensors must follow one another without gaps and fill the file exactly.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

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
"""Name of a dtype in a header → the dtype. A file with another dtype is an error."""
_MAX_HEADER_BYTES = 100_000_000
"""The limit of the safetensors library."""
_MAX_DIMENSIONS = 8
_PREFIX_BYTES = 8
"""A file starts with the length of its header, an unsigned little-endian integer."""


@dataclass(frozen=True)
class HeaderEntry:
    """What the header says about one tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    """Offset of the tensor's first byte from the start of the file."""

    @property
    def nbytes(self) -> int:
        """Size of the tensor in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(path: Path) -> dict[str, HeaderEntry]:
    """Describe the tensors in a file, by name, in the order of the header."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = _header_length(file.read(_PREFIX_BYTES), size)
            data = file.read(length)
        return _entries(_parse(data), start=_PREFIX_BYTES + length, end=size)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UserError as error:
        raise UserError(f"{path} is not a valid safetensors file: {error}") from error


def _header_length(prefix: bytes, size: int) -> int:
    if len(prefix) < _PREFIX_BYTES:
        raise UserError(f"it has only {len(prefix)} bytes")
    (length,) = struct.unpack("<Q", prefix)
    if length > min(_MAX_HEADER_BYTES, size - _PREFIX_BYTES):
        raise UserError(f"its header claims {length} of the file's {size} bytes")
    return int(length)


def _parse(data: bytes) -> dict[str, Any]:
    """The header as a table of tensors by name, without the metadata."""
    try:
        text = data.decode("utf-8")  # json.loads would guess other encodings from bytes
        header = json.loads(
            text,
            object_pairs_hook=_without_duplicates,
            parse_int=_unsigned,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:
        raise UserError(f"its header is not valid JSON ({error})") from error
    if not isinstance(header, dict) or not text.startswith("{"):
        raise UserError("its header is not a table of tensors")
    metadata = header.pop("__metadata__", None)
    if metadata is not None and not (
        isinstance(metadata, dict) and all(map(_is_text, [*metadata, *metadata.values()]))
    ):
        raise UserError("its __metadata__ is not a table of texts")
    return header


def _entries(header: dict[str, Any], start: int, end: int) -> dict[str, HeaderEntry]:
    """Check every tensor, and that together they fill the bytes from start to end."""
    entries = {name: _entry(name, value, start) for name, value in header.items()}
    position = start
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].nbytes)):
        if entry.offset != position:
            raise UserError(f"there is a gap or an overlap before the tensor {_short(name)}")
        position += entry.nbytes
    if position != end:
        raise UserError(f"its tensors need {position - start} bytes; the file has {end - start}")
    return entries


def _entry(name: str, value: Any, start: int) -> HeaderEntry:
    if not _is_text(name):
        raise UserError(f"the name of a tensor is not valid Unicode: {_short(name)}")
    try:
        dtype, shape, (begin, end) = value["dtype"], value["shape"], value["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(
            f"the tensor {_short(name)} lacks a dtype, a shape or two offsets"
        ) from error
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise UserError(f"the tensor {_short(name)} has the unknown dtype {_short(dtype)}")
    if not isinstance(shape, list) or not all(map(_is_size, [*shape, begin, end])):
        raise UserError(f"the shape or the offsets of the tensor {_short(name)} are not sizes")
    if len(shape) > _MAX_DIMENSIONS or not _is_size(math.prod(length or 1 for length in shape)):
        raise UserError(f"the shape of the tensor {_short(name)} is too large")
    entry = HeaderEntry(DTYPES[dtype], tuple(shape), start + begin)
    if entry.nbytes != end - begin:
        raise UserError(
            f"the tensor {_short(name)} needs {entry.nbytes} bytes; its offsets span {end - begin}"
        )
    return entry


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62


def _is_text(value: Any) -> bool:
    """Whether this is a string without lone surrogates, which UTF-8 cannot hold."""
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)


def _short(value: Any) -> str:
    """A value shortened for an error message."""
    return repr(value)[:100] if isinstance(value, str) else f"of type {type(value).__name__}"


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{_short(duplicate)} is in its header twice")
    return table


def _unsigned(digits: str) -> int:
    if digits.startswith("-"):  # the library refuses -0 too
        raise ValueError(f"{digits[:20]} has a sign")
    return int(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
