"""Read the weights of a checkpoint into memory, in the dtypes that a network stores.

A tensor of the right dtype is read straight to its place; others are converted piece by piece.
The safetensors library maps whole files, in pages of 4 KiB. Here weights are in larger pages, so a
core that streams them waits less for addresses, and nothing is in memory twice.
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
from gpt.weights.packed_int8 import PACKED_INT8
from gpt.weights.quantize import dequantize, quantize
from gpt.weights.safetensors_header import HeaderEntry

_OUR_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.int8)
"""The dtypes that our checkpoints use."""
_ALIGNMENT = 64
"""Every tensor starts at a multiple of this many bytes, as in memory that PyTorch allocates."""
PIECE = 1 << 18
"""Numbers of a tensor that are converted at once, few enough for a processor's cache."""


def read_header(path: Path) -> dict[str, HeaderEntry]:
    """Describe the tensors in one of our files, by name."""
    header = safetensors_header.read_header(path)
    for name, entry in header.items():
        if entry.dtype not in _OUR_DTYPES:
            dtype = str(entry.dtype).removeprefix("torch.")
            raise UserError(f"{path} stores {name} as {dtype}, which our checkpoints never use")
    return header


def read_weights(
    path: Path, header: Mapping[str, HeaderEntry], wanted: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Read the tensors that a network needs, by name, in the dtypes that it needs.

    wanted: tensors with these dtypes and shapes; their numbers are not used. Raises OSError if the
    file ends early, UserError if a number is too large for float16.
    """
    memory = _allocate(wanted)
    tensors = {
        name: torch.frombuffer(memory[name], dtype=like.dtype).view(like.shape)
        for name, like in wanted.items()
    }
    for name, whole in tensors.items():
        if name in header and header[name].dtype == whole.dtype:
            with path.open("rb") as file:
                file.seek(header[name].offset)
                _read_into(file, memory[name])
        elif name in header:
            scales = tensors.get(name.removesuffix("weight") + "scale")
            first = 0
            for piece in _float_pieces(path, header, name):
                rows = slice(first, first + len(piece))
                if scales is not None and whole.dtype == PACKED_INT8:
                    steps, scales[rows] = quantize(piece)
                    packed_int8.pack_rows(whole, steps, first)
                elif scales is not None and whole.dtype == torch.int8:
                    whole[rows], scales[rows] = quantize(piece)
                else:
                    whole[rows] = _converted(piece, whole.dtype, path)
                first += len(piece)
    return tensors


def _allocate(wanted: Mapping[str, Tensor]) -> dict[str, memoryview]:
    """Memory for each of these tensors, in one area."""
    spans, end = {}, 0
    for name, like in wanted.items():
        start = -(-end // _ALIGNMENT) * _ALIGNMENT
        end = start + like.numel() * like.dtype.itemsize
        spans[name] = start, end
    area = memoryview(large_pages(end))
    return {name: area[start:end] for name, (start, end) in spans.items()}


def large_pages(n_bytes: int) -> mmap.mmap:
    """Memory of zeros, in pages of 2 MiB if the system has them."""
    if sys.platform != "linux":
        return mmap.mmap(-1, n_bytes)
    area = mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):
        area.madvise(mmap.MADV_HUGEPAGE)
    return area


def _converted(piece: Tensor, dtype: torch.dtype, path: Path) -> Tensor:
    """The piece in another dtype, after a check that float16 can store it."""
    converted = piece.to(dtype)
    if dtype == torch.float16 and not torch.equal(converted.isfinite(), piece.isfinite()):
        raise UserError(f"{path} has numbers that float16 cannot store; use --dtype float32")
    return converted


def _float_pieces(path: Path, header: Mapping[str, HeaderEntry], name: str) -> Iterator[Tensor]:
    """Yield some rows of a tensor at a time, converted to float32."""
    entry = header[name]
    width = math.prod(entry.shape[1:])
    n_rows = max(1, PIECE // width)
    with path.open("rb") as file:  # a mapped file would count as memory of this process
        for first in range(0, entry.shape[0], n_rows):
            shape = (min(n_rows, entry.shape[0] - first), *entry.shape[1:])
            piece = _read(file, entry, first * width, shape)
            if entry.dtype == torch.int8:
                scale = header[name.removesuffix("weight") + "scale"]
                yield dequantize(piece, _read(file, scale, first, shape[:1]))
            else:
                yield piece.float()


def _read(file: BinaryIO, entry: HeaderEntry, first: int, shape: tuple[int, ...]) -> Tensor:
    """Read a part of a tensor; first: index of its first number in the flat tensor."""
    size = entry.dtype.itemsize
    data = bytearray(math.prod(shape) * size)
    file.seek(entry.offset + first * size)
    _read_into(file, memoryview(data))
    return torch.frombuffer(data, dtype=entry.dtype).view(shape)


def _read_into(file: BinaryIO, memory: memoryview) -> None:
    """Fill the memory from the file."""
    if file.readinto(memory) < len(memory):  # type: ignore[attr-defined]
        raise OSError("the file ends early")
