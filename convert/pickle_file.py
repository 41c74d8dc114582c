"""PyTorch's own files, pytorch_model.bin, read without running what they may carry."""

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

from convert.weights import PIECE, Info
from gpt.errors import UserError

# The first torch whose weights_only is safe (CVE-2025-32434, CVE-2026-24747).
_SAFE_TORCH = (2, 10)
# Pages of a mapped file stay in memory; after so many bytes it is mapped anew.
_MAPPED = 1 << 28


class PickleFile:
    """The tensors of one .bin file. Raises UserError where it is not safe or not sound."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._loaded: dict[str, Tensor] | None = None
        self._touched = 0
        _check_torch(path)
        self._is_zip = _is_sound_zip(path)
        size = path.stat().st_size
        self.tensors: dict[str, Info] = {}
        for name, tensor in self._open().items():
            if not isinstance(name, str) or not isinstance(tensor, Tensor):
                kind = type(tensor).__name__
                raise UserError(f"{path} holds a {kind} at {name!r} where a tensor should be")
            if tensor.layout != torch.strided or tensor.is_quantized:
                raise UserError(f"the tensor {name!r} in {path} is sparse or quantised")
            if math.prod(tensor.shape) * tensor.dtype.itemsize > size:
                raise UserError(f"the tensor {name!r} in {path} claims to be larger than the file")
            self.tensors[name] = Info(tensor.dtype, tuple(tensor.shape), path)
        self.close()

    def read(self, name: str) -> Tensor:
        """One tensor, as a view of the mapped file."""
        if self._is_zip and self._touched > _MAPPED:
            self.close()
        self._touched += self.tensors[name].nbytes
        return self._open()[name].detach()

    def pieces(self, name: str) -> Iterator[Tensor]:
        """The same numbers in order, at most PIECE at a time."""
        flat = self.read(name).reshape(-1)
        for begin in range(0, flat.numel(), PIECE):
            yield flat[begin : begin + PIECE]

    def close(self) -> None:
        """Unmap the file, or forget what had to be loaded as a whole."""
        self._loaded = None
        self._touched = 0

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
            # torch's own message advises to switch the protection off.
            raise UserError(
                f"{self.path} is not loaded: it is damaged or holds more than tensors, which "
                "could run any program; use a safetensors file"
            ) from error
        except Exception as error:  # a damaged file may raise anything
            reason = str(error).partition("\n")[0][:200]
            raise UserError(f"{self.path} is no sound PyTorch file: {reason}") from error
        if not isinstance(loaded, dict):
            raise UserError(f"{self.path} holds a {type(loaded).__name__}, not tensors by name")
        return loaded


def _check_torch(path: Path) -> None:
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < _SAFE_TORCH:
        raise UserError(
            f"torch {torch.__version__} cannot read {path} safely; install torch 2.10 or newer, "
            "or use a safetensors file"
        )


def _is_sound_zip(path: Path) -> bool:
    """Whether this is the newer format. A compressed entry could unpack to any size."""
    try:
        with path.open("rb") as file:
            if file.read(4) != b"PK\x03\x04":
                return False
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise UserError(f"{path} is compressed, which PyTorch's files never are")
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise UserError(f"{path} is no sound PyTorch file: {error}") from error
    return True
