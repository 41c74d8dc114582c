"""The numbers of a checkpoint on their way through: read, turned, checked, rounded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from convert.events import Progress, Tell
from convert.family import unchanged
from convert.plan import Plan
from convert.safetensors_file import Layout
from convert.weights import Weights
from gpt.errors import UserError
from gpt.quantize import quantize


def pieces(plan: Plan, weights: Weights, dtype: torch.dtype, tell: Tell) -> Iterator[Tensor]:
    """The numbers of our parameters in the plan's order.

    What needs no transform passes through in pieces; of the rest, a tensor at a time is in
    memory. The parts of a joined matrix are its rows, so they simply follow each other. Raises
    UserError where a number is not finite.
    """
    sources = [source for parts in plan.sources.values() for source in parts]
    progress = _Progress(weights, [source.name for source in sources], tell)
    for name, parts in plan.sources.items():
        if not parts:
            yield torch.full(plan.shapes[name], plan.fills[name], dtype=dtype)
        for source in parts:
            info = weights.tensors[source.name]
            if source.place.transform is unchanged:
                for piece in weights.pieces(source.name):
                    yield _checked(piece, dtype, source.name, info.file)
                    progress.add(info.file, piece.nbytes)
            else:
                tensor = _checked(weights.read(source.name), dtype, source.name, info.file)
                yield source.place.transform(tensor)
                progress.add(info.file, info.nbytes)


def quantised(layout: Layout, pieces: Iterator[Tensor]) -> Iterator[Tensor]:
    """float32 pieces as a layout wants them: matrices as int8 rows, and then their scales."""
    for name, (dtype, shape) in layout.items():
        if dtype == torch.int8:
            rows = _rows(pieces, math.prod(shape), shape[1])
            scales = []
            for weight, scale in map(quantize, rows):
                yield weight
                scales.append(scale)
            yield torch.cat(scales)
        elif not name.endswith(".scale"):  # those have followed their matrix already
            yield from _rows(pieces, math.prod(shape), 1)


def _rows(pieces: Iterator[Tensor], count: int, width: int) -> Iterator[Tensor]:
    """The next `count` numbers as whole rows (n, width), however they come."""
    left = torch.empty(0)
    while count:
        piece = next(pieces).reshape(-1)
        count -= len(piece)
        data = torch.cat((left, piece))
        whole = len(data) - len(data) % width
        yield data[:whole].view(-1, width)
        left = data[whole:]


class _Progress:
    """Bytes that were read, per file and in total."""

    def __init__(self, weights: Weights, names: list[str], tell: Tell) -> None:
        self._tell = tell
        self._totals: Counter[Path] = Counter()
        self._done: Counter[Path] = Counter()
        for name in names:
            info = weights.tensors[name]
            self._totals[info.file] += info.nbytes

    def add(self, file: Path, n_bytes: int) -> None:
        """So many bytes of a file are done."""
        self._done[file] += n_bytes
        of_file, total = self._totals[file], self._totals.total()
        done = self._done.total()
        self._tell(Progress("convert", file.name, self._done[file], of_file, done, total))


def _checked(tensor: Tensor, dtype: torch.dtype, name: str, file: Path) -> Tensor:
    """In another dtype. Raises UserError where a number is not finite, before or after."""
    if not _is_finite(tensor):
        raise UserError(f"{name!r} in {file} holds NaN or Inf, so the model is broken")
    if tensor.dtype == dtype:
        return tensor
    tensor = tensor.to(dtype)
    if not _is_finite(tensor):
        raise UserError(
            f"{name!r} in {file} holds numbers that {str(dtype).removeprefix('torch.')} cannot; "
            "choose --dtype bfloat16 or float32"
        )
    return tensor


def _is_finite(tensor: Tensor) -> bool:
    """One pass, and no copy: a NaN is both the least and the greatest."""
    return not tensor.numel() or bool(torch.stack(torch.aminmax(tensor)).isfinite().all())


def same(weights: Weights, a: str, b: str) -> bool:
    """Whether two tensors hold the same numbers."""
    if weights.tensors[a].shape != weights.tensors[b].shape:
        return False
    pairs = zip(weights.pieces(a), weights.pieces(b), strict=True)
    return all(torch.equal(x.double(), y.double()) for x, y in pairs)
