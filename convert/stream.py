"""Reads the numbers of a checkpoint piece by piece, checks them and converts their dtype."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from convert.events import ConversionProgress, OnEvent
from convert.family import unchanged
from convert.plan import Plan
from convert.safetensors_file import Layout
from convert.weights import Weights
from gpt.errors import UserError
from gpt.weights.quantize import quantize


def converted_pieces(
    plan: Plan, weights: Weights, dtype: torch.dtype, on_event: OnEvent
) -> Iterator[Tensor]:
    """The numbers of our parameters in the plan's order, in a dtype.

    A tensor without a transform passes through in pieces; any other is in memory as a whole. The
    parts of a joined matrix are its rows, so they simply follow each other. Refuses numbers that
    are not finite.
    """
    sources = [source for parts in plan.sources.values() for source in parts]
    counter = _ByteCounter(weights, [source.name for source in sources], on_event)
    for name, parts in plan.sources.items():
        if not parts:
            yield torch.full(plan.shapes[name], plan.constants[name], dtype=dtype)
        for source in parts:
            info = weights.tensors[source.name]
            if source.place.transform is unchanged:
                for piece in weights.pieces(source.name):
                    yield _cast(piece, dtype, source.name, info.file)
                    counter.add(info.file, piece.nbytes)
            else:
                tensor = _cast(weights.read(source.name), dtype, source.name, info.file)
                yield source.place.transform(tensor)
                counter.add(info.file, info.nbytes)


def quantised_pieces(layout: Layout, pieces: Iterator[Tensor]) -> Iterator[Tensor]:
    """float32 pieces → pieces of a layout with int8 matrices, each followed by its row scales."""
    for name, (dtype, shape) in layout.items():
        if dtype == torch.int8:
            rows = _rows(pieces, math.prod(shape), shape[1])
            scales = []
            for weight, scale in map(quantize, rows):
                yield weight
                scales.append(scale)
            yield torch.cat(scales)
        elif not name.endswith(".scale"):  # scales were written after their matrix
            yield from _rows(pieces, math.prod(shape), 1)


def _rows(pieces: Iterator[Tensor], count: int, width: int) -> Iterator[Tensor]:
    """The next `count` numbers of pieces of any size, as whole rows (n, width)."""
    rest = torch.empty(0)
    while count:
        piece = next(pieces).reshape(-1)
        count -= len(piece)
        data = torch.cat((rest, piece))
        whole = len(data) - len(data) % width
        yield data[:whole].view(-1, width)
        rest = data[whole:]


class _ByteCounter:
    """Counts the bytes that were read, per file and in total, and reports them."""

    def __init__(self, weights: Weights, names: list[str], on_event: OnEvent) -> None:
        self._on_event = on_event
        self._totals: Counter[Path] = Counter()
        self._done: Counter[Path] = Counter()
        for name in names:
            info = weights.tensors[name]
            self._totals[info.file] += info.nbytes

    def add(self, file: Path, n_bytes: int) -> None:
        """Count bytes of a file as done."""
        self._done[file] += n_bytes
        file_done, file_total = self._done[file], self._totals[file]
        done, total = self._done.total(), self._totals.total()
        self._on_event(ConversionProgress("convert", file.name, file_done, file_total, done, total))


def _cast(tensor: Tensor, dtype: torch.dtype, name: str, file: Path) -> Tensor:
    """A tensor in a dtype. Refuses numbers that are not finite before or after the cast."""
    if not _is_finite(tensor):
        raise UserError(f"{name!r} in {file} holds NaN or Inf, so the model is broken")
    if tensor.dtype == dtype:
        return tensor
    tensor = tensor.to(dtype)
    if not _is_finite(tensor):
        raise UserError(
            f"{name!r} in {file} holds numbers too large for {str(dtype).removeprefix('torch.')}; "
            "choose --dtype bfloat16 or float32"
        )
    return tensor


def _is_finite(tensor: Tensor) -> bool:
    """One pass without a copy: if there is a NaN, aminmax returns it as minimum and maximum."""
    return not tensor.numel() or bool(torch.stack(torch.aminmax(tensor)).isfinite().all())


def is_equal(weights: Weights, a: str, b: str) -> bool:
    """Whether two tensors, given by name, hold the same numbers."""
    if weights.tensors[a].shape != weights.tensors[b].shape:
        return False
    pairs = zip(weights.pieces(a), weights.pieces(b), strict=True)
    return all(torch.equal(x.double(), y.double()) for x, y in pairs)
