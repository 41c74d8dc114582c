"""Read the weights of a checkpoint into memory, in the dtypes that a network stores.

A tensor of the right dtype is read straight to its place; others are converted piece by piece.
The safetensors library maps whole files, in pages of 4 KiB. Here weights are in larger pages, so a
core that streams them waits less for addresses, and nothing is in memory twice.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import torch
from torch import Tensor, nn

from gpt.errors import UserError
from gpt.weights import safetensors_header
from gpt.weights.quantize import Matrix, dequantize
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
    path: Path,
    header: Mapping[str, HeaderEntry],
    model: nn.Module,
    loud: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> None:
    """Read the numbers of a network that has none, in the dtypes in which it stores them.

    loud: matrices in 8 or 4 bits, by name → the columns that stay in 16 bits; others keep their
    first ones. Raises OSError if the file ends early, UserError if a number is too large for
    float16.
    """
    wanted = model.state_dict()
    memory = _allocate(wanted)
    tensors = {
        name: torch.frombuffer(memory[name], dtype=like.dtype).view(like.shape)
        for name, like in wanted.items()
    }
    model.load_state_dict(tensors, assign=True)
    matrices = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, Matrix) and module.scale is not None
    }
    for name, matrix in matrices.items():
        _read_matrix(path, header, name, matrix, loud.get(name, ()))
    for name, whole in tensors.items():
        module, _, tensor = name.rpartition(".")
        if module in matrices and tensor != "bias":
            continue
        if header[name].dtype == whole.dtype:
            with path.open("rb") as file:
                file.seek(header[name].offset)
                _read_into(file, memory[name])
            continue
        first = 0
        for piece in _float_pieces(path, header, name):
            whole[first : first + len(piece)] = _converted(piece, whole.dtype, path)
            first += len(piece)


def _read_matrix(
    path: Path,
    header: Mapping[str, HeaderEntry],
    name: str,
    matrix: Matrix,
    loud: Sequence[int],
) -> None:
    """Read a matrix that is stored in 8 or 4 bits, with these loud columns if there are any."""
    assert matrix.columns is not None and matrix.loud is not None  # noqa: S101 (few bits have them)
    n_loud, n_in = len(matrix.columns), matrix.shape[1]
    known = [column for column in loud if column < n_in][:n_loud]  # a manifest may hold anything
    chosen = list(dict.fromkeys([*known, *range(n_in)]))[:n_loud]
    matrix.columns[:, 0] = torch.tensor(chosen)
    entry, first = header[f"{name}.weight"], 0
    if entry.dtype == torch.int8 and matrix.dtype != "int4":  # the same steps, nothing is rounded
        for steps, scale in _int8_pieces(path, header, f"{name}.weight"):
            matrix.write_int8(first, steps, scale[:, None])
            first += len(steps)
        return
    for piece in _float_pieces(path, header, f"{name}.weight"):
        matrix.write(first, piece)
        first += len(piece)


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
    if header[name].dtype == torch.int8:
        for steps, scale in _int8_pieces(path, header, name):
            yield dequantize(steps, scale)
    else:
        for piece, _ in _pieces(path, header[name]):
            yield piece.float()


def _int8_pieces(
    path: Path, header: Mapping[str, HeaderEntry], name: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield some rows (n, in) of an int8 matrix at a time, with their scales (n)."""
    scale = header[name.removesuffix("weight") + "scale"]
    with path.open("rb") as file:
        scales = _read(file, scale, 0, scale.shape)
    for piece, first in _pieces(path, header[name]):
        yield piece, scales[first : first + len(piece)]


def _pieces(path: Path, entry: HeaderEntry) -> Iterator[tuple[Tensor, int]]:
    """Yield some rows of a tensor at a time, and the index of the first of them."""
    width = math.prod(entry.shape[1:])
    n_rows = max(1, PIECE // width)
    with path.open("rb") as file:  # a mapped file would count as memory of this process
        for first in range(0, entry.shape[0], n_rows):
            shape = (min(n_rows, entry.shape[0] - first), *entry.shape[1:])
            yield _read(file, entry, first * width, shape), first


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
