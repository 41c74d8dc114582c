"""The numbers of a checkpoint as a network wants them, read or turned in pieces into their place.

The safetensors library maps whole files, in pages of 4 KiB; a core that streams weights from
memory in larger ones waits less for addresses, and nothing is in memory twice.
Format: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import mmap
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import safe_open
from torch import Tensor

from gpt import packed
from gpt.errors import UserError
from gpt.quantize import PACKED, dequantize, quantize

_FILE_DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I8": torch.int8,
}
_ALIGNED = 64
"""Bytes; every tensor begins at a multiple, as those of PyTorch's own memory do."""
_PIECE = 1 << 18
"""Numbers of a tensor that are turned at once; few enough for a processor's cache."""


@dataclass(frozen=True)
class Info:
    """What a file says of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    """Its first byte in the file."""


def read_header(path: Path) -> dict[str, Info]:
    """The tensors of a file, by name. Raises OSError, SafetensorError or UserError."""
    try:
        with safe_open(path, framework="pt"):
            pass  # it has checked that the offsets lie in the file and fit the shapes
    except MemoryError as error:
        raise OSError("it has more bytes than can be mapped") from error
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(size))
    entries.pop("__metadata__", None)
    for name, entry in entries.items():
        if entry["dtype"] not in _FILE_DTYPES:
            raise UserError(
                f"{path} holds {name} as {entry['dtype']}, which no program of ours does"
            )
    return {
        name: Info(
            _FILE_DTYPES[entry["dtype"]],
            tuple(entry["shape"]),
            8 + size + entry["data_offsets"][0],
        )
        for name, entry in entries.items()
    }


def read_weights(
    path: Path, header: Mapping[str, Info], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The parameters that a network wants, in the dtypes it wants them in.

    Raises OSError where the file ends early, UserError where float16 has not its numbers.
    """
    places = _places(wanted)
    found = {
        name: torch.frombuffer(places[name], dtype=like.dtype).view(like.shape)
        for name, like in wanted.items()
    }
    for name, whole in found.items():
        if name in header and header[name].dtype == whole.dtype:
            with path.open("rb") as file:
                file.seek(header[name].offset)
                _fill(file, places[name])
        elif name in header:
            scales = found.get(name.removesuffix("weight") + "scale")
            begin = 0
            for piece in _pieces(path, header, name):
                rows = slice(begin, begin + len(piece))
                if scales is not None and whole.dtype == PACKED:
                    steps, scales[rows] = quantize(piece)
                    packed.put(whole, steps, begin)
                elif scales is not None and whole.dtype == torch.int8:
                    whole[rows], scales[rows] = quantize(piece)
                else:
                    whole[rows] = _fitting(piece, whole.dtype, path)
                begin += len(piece)
    return found


def _places(wanted: Mapping[str, Tensor]) -> dict[str, memoryview]:
    """Memory for each of these tensors, in one area."""
    ends, end = {}, 0
    for name, like in wanted.items():
        begin = -(-end // _ALIGNED) * _ALIGNED
        end = begin + like.numel() * like.dtype.itemsize
        ends[name] = begin, end
    area = memoryview(large_pages(end))
    return {name: area[begin:end] for name, (begin, end) in ends.items()}


def large_pages(n_bytes: int) -> mmap.mmap:
    """Zeros, in pages of 2 MiB where the system has them."""
    if sys.platform != "linux":
        return mmap.mmap(-1, n_bytes)
    area = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):
        area.madvise(mmap.MADV_HUGEPAGE)
    return area


def _fitting(piece: Tensor, dtype: torch.dtype, path: Path) -> Tensor:
    turned = piece.to(dtype)
    if dtype == torch.float16 and not torch.equal(turned.isfinite(), piece.isfinite()):
        raise UserError(f"{path} holds numbers that float16 cannot; use --dtype float32")
    return turned


def _pieces(path: Path, header: Mapping[str, Info], name: str) -> Iterator[Tensor]:
    """A tensor in float32, some rows at a time, whatever it is stored in."""
    info = header[name]
    width = math.prod(info.shape[1:])
    rows = max(1, _PIECE // width)
    with path.open("rb") as file:  # read and not mapped, or the pages would count as ours
        for begin in range(0, info.shape[0], rows):
            shape = (min(rows, info.shape[0] - begin), *info.shape[1:])
            piece = _read(file, info, begin * width, shape)
            if info.dtype == torch.int8:
                scale = header[name.removesuffix("weight") + "scale"]
                yield dequantize(piece, _read(file, scale, begin, shape[:1]))
            else:
                yield piece.float()


def _read(file: BinaryIO, info: Info, begin: int, shape: tuple[int, ...]) -> Tensor:
    """Numbers of a tensor from number `begin` on."""
    size = info.dtype.itemsize
    data = bytearray(math.prod(shape) * size)
    file.seek(info.offset + begin * size)
    _fill(file, memoryview(data))
    return torch.frombuffer(data, dtype=info.dtype).view(shape)


def _fill(file: BinaryIO, place: memoryview) -> None:
    if file.readinto(place) < len(place):  # type: ignore[attr-defined]
        raise OSError("the file ends early")
