"""The tensors of a GGUF file under the names, and in the layout, that transformers gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from convert.gguf_header import Entry, Header
from convert.weights import TensorInfo
from gpt.errors import UserError
from gpt.weights.read import PIECE

_PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types that are not packed → their dtype. All other types become float32."""


@dataclass(frozen=True)
class View:
    """A tensor of transformers, as a tensor of the file whose rows or sides are exchanged."""

    source: str
    """Name in the file."""
    rows: Callable[[int], Tensor] | None = None
    """Number of rows → for each row of transformers' tensor, its row in the file."""
    transposed: bool = False
    """Whether transformers stores (in, out)."""


class GgufFile:
    """The tensors of one file."""

    def __init__(self, header: Header, views: Mapping[str, View]) -> None:
        """views: name in transformers → tensor of the file."""
        for view in views.values():
            entry = header.tensors[view.source]
            if view.rows and len(entry.shape) == 1 and entry.block[0] > 1:
                raise UserError(f"{view.source!r} in {header.path} is a vector that is quantised")
        self.path = header.path
        self._views = dict(views)
        self._entries = {name: header.tensors[view.source] for name, view in views.items()}
        self.tensors = {
            name: TensorInfo(
                _PLAIN.get(entry.kind, torch.float32),
                entry.shape[::-1] if self._views[name].transposed else entry.shape,
                self.path,
            )
            for name, entry in self._entries.items()
        }

    def read(self, name: str) -> Tensor:
        """One tensor, in memory of its own."""
        entry = self._entries[name]
        tensor = torch.empty(entry.shape, dtype=self.tensors[name].dtype)
        flat, done = tensor.view(-1), 0
        for piece in self._stored_pieces(name):
            flat[done : done + len(piece)] = piece
            done += len(piece)
        return tensor.t() if self._views[name].transposed else tensor

    def pieces(self, name: str) -> Iterator[Tensor]:
        """The numbers of a tensor in order, at most PIECE of them at a time."""
        if not self._views[name].transposed:
            return self._stored_pieces(name)
        flat = self.read(name).reshape(-1)
        return (flat[begin : begin + PIECE] for begin in range(0, len(flat), PIECE))

    def close(self) -> None:
        """Do nothing: the file is open only while a piece is read."""

    def _stored_pieces(self, name: str) -> Iterator[Tensor]:
        """The numbers as the file orders them, except for the exchange of rows."""
        entry, rows = self._entries[name], self._views[name].rows
        numbers, n_bytes = entry.block
        step = PIECE // numbers * n_bytes
        if rows is None:
            for begin in range(0, entry.nbytes, step):
                size = min(step, entry.nbytes - begin)
                yield _unpacked(self._bytes(entry.offset + begin, size), entry)
            return
        n_rows = entry.shape[0]
        stored = self._bytes(entry.offset, entry.nbytes).reshape(n_rows, -1)
        exchanged = stored[rows(n_rows).numpy()].reshape(-1)
        for begin in range(0, entry.nbytes, step):
            yield _unpacked(exchanged[begin : begin + step], entry)

    def _bytes(self, offset: int, n_bytes: int) -> np.ndarray:
        try:
            data = np.fromfile(self.path, np.uint8, n_bytes, offset=offset)
        except OSError as error:
            raise UserError(f"cannot read {self.path}: {error.strerror}") from error
        if len(data) != n_bytes:
            raise UserError(f"{self.path} became shorter while it was read")
        return data


def _unpacked(data: np.ndarray, entry: Entry) -> Tensor:
    """Bytes of a tensor → its numbers, (n)."""
    if entry.kind in _PLAIN:
        return torch.from_numpy(data).view(_PLAIN[entry.kind])
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    with np.errstate(all="ignore"):  # Inf and NaN are refused where the numbers are used
        found = dequantize(data.reshape(1, -1), GGMLQuantizationType[entry.kind])
    return torch.from_numpy(found).view(-1)
