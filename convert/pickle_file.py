"""PyTorch's own format, pytorch_model.bin, read without running programs it may contain."""

from __future__ import annotations

import math
import pickle
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convert.weights import TensorInfo
from gpt.errors import UserError
from gpt.weights.read import PIECE

_SAFE_TORCH = (2, 10)
"""The first torch whose weights_only is safe (CVE-2025-32434, CVE-2026-24747)."""
_MAX_MAPPED_BYTES = 1 << 28
"""After reading this much, a file is mapped again, because its pages stay in memory until then."""


class PickleFile:
    """The tensors of one .bin file. Refuses files that are unsafe or damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._loaded: dict[str, Tensor] | None = None
        self._bytes_read = 0
        _check_torch(path)
        self._is_zip = _is_valid_zip(path)
        size = path.stat().st_size
        self.tensors: dict[str, TensorInfo] = {}
        for name, tensor in self._open().items():
            if not isinstance(name, str) or not isinstance(tensor, Tensor):
                kind = type(tensor).__name__
                raise UserError(f"{path} holds a {kind} at {name!r}; only tensors are allowed")
            if tensor.layout != torch.strided or tensor.is_quantized:
                raise UserError(f"the tensor {name!r} in {path} is sparse or quantised")
            if math.prod(tensor.shape) * tensor.dtype.itemsize > size:
                raise UserError(f"the tensor {name!r} in {path} claims to be larger than the file")
            self.tensors[name] = TensorInfo(tensor.dtype, tuple(tensor.shape), path)
        self.close()

    def read(self, name: str) -> Tensor:
        """One tensor, as a view of the mapped file."""
        if self._is_zip and self._bytes_read > _MAX_MAPPED_BYTES:
            self.close()
        self._bytes_read += self.tensors[name].nbytes
        return self._open()[name].detach()

    def pieces(self, name: str) -> Iterator[Tensor]:
        """The numbers of a tensor in order, at most PIECE of them at a time."""
        flat = self.read(name).reshape(-1)
        for begin in range(0, flat.numel(), PIECE):
            yield flat[begin : begin + PIECE]

    def close(self) -> None:
        """Unmap the file; the older format is not mapped and its tensors are freed."""
        self._loaded = None
        self._bytes_read = 0

    def _open(self) -> dict[str, Tensor]:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _load(self) -> dict[str, Tensor]:
        try:
            with warnings.catch_warnings(action="ignore"):
                loaded: Any = torch.load(
                    self.path, map_location="cpu", weights_only=True, mmap=self._is_zip
                )
        except pickle.UnpicklingError as error:
            # torch's own message recommends to turn weights_only off.
            raise UserError(
                f"{self.path} is not loaded: it is damaged or holds more than tensors, which "
                "could run any program; use a safetensors file"
            ) from error
        except Exception as error:  # a damaged file may raise anything
            reason = str(error).partition("\n")[0][:200]
            raise UserError(f"{self.path} is not a valid PyTorch file: {reason}") from error
        if not isinstance(loaded, dict):
            raise UserError(
                f"{self.path} holds a {type(loaded).__name__}; it must hold a table of tensors"
            )
        return loaded


def _check_torch(path: Path) -> None:
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < _SAFE_TORCH:
        raise UserError(
            f"torch {torch.__version__} cannot read {path} safely; install torch 2.10 or newer, "
            "or use a safetensors file"
        )


def _is_valid_zip(path: Path) -> bool:
    """Whether this is the newer format, a zip. Refuses compression: it could unpack to any size."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":
                return False
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise UserError(f"{path} is compressed, but PyTorch never compresses its files")
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UserError(f"{path} is not a valid PyTorch file: {error}") from error
    return True
