"""The numbers of a checkpoint as a network wants them, read or turned in pieces into their place.

The safetensors library maps whole files, in pages of 4 KiB; a core that streams weights from
memory in larger ones waits less for addresses, and nothing is in memory twice.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from gpt.errors import UserError
from gpt.weights import packed_int8, safetensors_header
from gpt.weights.quantize import PACKED, dequantize, quantize
from gpt.weights.safetensors_header import HeaderEntry

_OUR_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int8)
"""The dtypes that our checkpoints use."""
_ALIGNED = 64
"""Bytes; every tensor begins at a multiple, as those of PyTorch's own memory do."""
PIECE = 1 << 18
"""Numbers of a tensor that are converted at once; few enough for a processor's cache."""

"""The name by which gpt/checkpoint.py knows a header's entries."""


def read_header(path: Path) -> dict[str, HeaderEntry]:
    """The tensors of one of our files, by name."""
    header = safetensors_header.read_header(path)
    for name, entry in header.items():
        if entry.dtype not in _OUR_DTYPES:
            dtype = str(entry.dtype).removeprefix("torch.")
            raise UserError(f"{path} holds {name} as {dtype}, which our checkpoints never use")
    return header


def read_weights(
    path: Path, header: Mapping[str, HeaderEntry], wanted: Mapping[str, Tensor]
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
                    packed_int8.put(whole, steps, begin)
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


def _pieces(path: Path, header: Mapping[str, HeaderEntry], name: str) -> Iterator[Tensor]:
    """A tensor in float32, some rows at a time, whatever it is stored in."""
    info = header[name]
    width = math.prod(info.shape[1:])
    rows = max(1, PIECE // width)
    with path.open("rb") as file:  # read and not mapped, or the pages would count as ours
        for begin in range(0, info.shape[0], rows):
            shape = (min(rows, info.shape[0] - begin), *info.shape[1:])
            piece = _read(file, info, begin * width, shape)
            if info.dtype == torch.int8:
                scale = header[name.removesuffix("weight") + "scale"]
                yield dequantize(piece, _read(file, scale, begin, shape[:1]))
            else:
                yield piece.float()


def _read(file: BinaryIO, info: HeaderEntry, begin: int, shape: tuple[int, ...]) -> Tensor:
    """Numbers of a tensor from number `begin` on."""
    size = info.dtype.itemsize
    data = bytearray(math.prod(shape) * size)
    file.seek(info.offset + begin * size)
    _fill(file, memoryview(data))
    return torch.frombuffer(data, dtype=info.dtype).view(shape)


def _fill(file: BinaryIO, place: memoryview) -> None:
    if file.readinto(place) < len(place):  # type: ignore[attr-defined]
        raise OSError("the file ends early")
