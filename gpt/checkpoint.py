"""A model in a directory: config.json, tokenizer files, model.safetensors and a manifest.

A directory is written beside its place and renamed, so a half-written one is never loaded.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gpt import models, tokenizer
from gpt.config import ModelConfig
from gpt.draft import replacing
from gpt.errors import UserError
from gpt.model import GPT
from gpt.models import MANIFEST, Manifest
from gpt.quantize import DTYPES, SmallGPT, dequantize, quantize

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
_FILE_DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I8": torch.int8,
}
_PIECE = 1 << 18
"""Numbers of a tensor that are turned at once; few enough for a processor's cache."""


@dataclass
class Checkpoint:
    """A model that is ready to run."""

    model: GPT
    tokenizer: tokenizer.Tokenizer
    manifest: Manifest
    name: str


def load(directory: Path, device: str = "cpu", dtype: str = "float32") -> Checkpoint:
    """Read a checkpoint onto a device. dtype: a name of DTYPES, or "stored".

    On a CPU the file is mapped, not copied, where it already has that dtype; elsewhere it is
    turned piece by piece, so that nothing is in memory twice. Raises UserError where anything is
    missing, damaged or does not fit together.
    """
    manifest = models.read_manifest(directory)
    for name, facts in manifest.files.items():
        path = directory / name
        if not path.is_file() or path.stat().st_size != facts["size"]:
            raise UserError(f"{path} is missing or does not have the {facts['size']} bytes it had")
    model = load_network(directory, device, dtype)
    return Checkpoint(model, tokenizer.load(directory), manifest, directory.name)


def load_network(directory: Path, device: str = "cpu", dtype: str = "float32") -> GPT:
    """Only the network of a checkpoint, which needs no manifest yet.

    A CPU multiplies in float32 whatever is stored; a GPU computes in the dtype itself.
    """
    config, path = read_config(directory), directory / WEIGHTS
    try:
        header = _header(path)
        stored = next((info.dtype for name, info in header.items() if name == "wte.weight"), None)
        asked = stored if dtype == "stored" else DTYPES[dtype]
        _check_names(directory, header, empty_network(config, stored))
        model = empty_network(config, asked if device == "cpu" else None)
        if device != "cpu":
            model = model.to(asked)
        weights = dict(_weights(path, header, model.state_dict()))
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    model.load_state_dict(
        {name: tensor.to(device) for name, tensor in weights.items()}, assign=True
    )
    return model.requires_grad_(False).eval()


def empty_network(config: ModelConfig, dtype: torch.dtype | None = None) -> GPT:
    """A network that has shapes but no numbers, its matrices in a dtype that a CPU stores.

    Raises UserError where it is beyond any memory.
    """
    try:
        with torch.device("meta"), _Uninitialised():
            if dtype in (None, torch.float32):
                return GPT(config)
            return SmallGPT(config, dtype)
    except RuntimeError as error:
        raise UserError(f"config.json asks for an impossible network: {error}") from error


def read_config(directory: Path) -> ModelConfig:
    """The architecture of a checkpoint. Raises UserError naming the file."""
    path = directory / CONFIG
    try:
        return ModelConfig.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError, UserError) as error:
        raise UserError(f"cannot use {path}: {error}") from error


class _Uninitialised(TorchFunctionMode):
    """No random numbers where there is no memory: torch would import sympy to draw none."""

    def __torch_function__(  # type: ignore[no-untyped-def]
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ):
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class _Info:
    """What a file says of a tensor."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    """Its first byte in the file."""


def _header(path: Path) -> dict[str, _Info]:
    with safe_open(path, framework="pt"):
        pass  # it has checked that the offsets lie in the file and fit the shapes
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
        name: _Info(
            _FILE_DTYPES[entry["dtype"]],
            tuple(entry["shape"]),
            8 + size + entry["data_offsets"][0],
        )
        for name, entry in entries.items()
    }


def _check_names(directory: Path, header: Mapping[str, _Info], network: GPT) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: info.shape for name, info in header.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise UserError(
                f"{directory / WEIGHTS} does not fit {CONFIG}: {name} is "
                f"{found.get(name, 'missing')} in the file and "
                f"{expected.get(name, 'absent')} in the network"
            )


def _weights(
    path: Path, header: Mapping[str, _Info], wanted: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """The parameters that a network wants, in the dtypes it wants them in."""
    matrix = "wte.weight"
    maps = header[matrix].dtype == wanted[matrix].dtype
    for name, like in wanted.items():
        if maps and header[name].dtype == like.dtype:
            with safe_open(path, framework="pt") as file:
                yield name, file.get_tensor(name)
        elif name in header:
            whole = torch.empty(like.shape, dtype=like.dtype)
            scales = torch.empty(like.size(0))
            begin = 0
            for piece in _pieces(path, header, name):
                rows = slice(begin, begin + len(piece))
                if like.dtype == torch.int8:
                    whole[rows], scales[rows] = quantize(piece)
                else:
                    whole[rows] = _fitting(piece, like.dtype, path)
                begin += len(piece)
            yield name, whole
            if like.dtype == torch.int8:
                yield name.removesuffix("weight") + "scale", scales


def _fitting(piece: Tensor, dtype: torch.dtype, path: Path) -> Tensor:
    turned = piece.to(dtype)
    if dtype == torch.float16 and not torch.equal(turned.isfinite(), piece.isfinite()):
        raise UserError(f"{path} holds numbers that float16 cannot; use --dtype float32")
    return turned


def _pieces(path: Path, header: Mapping[str, _Info], name: str) -> Iterator[Tensor]:
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


def _read(file: BinaryIO, info: _Info, begin: int, shape: tuple[int, ...]) -> Tensor:
    """Numbers of a tensor from number `begin` on."""
    size = info.dtype.itemsize
    data = bytearray(math.prod(shape) * size)
    file.seek(info.offset + begin * size)
    file.readinto(data)  # type: ignore[attr-defined]
    return torch.frombuffer(data, dtype=info.dtype).view(shape)


def layout(config: ModelConfig, dtype: str) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """The tensors of a checkpoint in their order: dtype and shape of each."""
    kept = DTYPES[dtype]
    return {
        name: (tensor.dtype if dtype == "int8" else kept, tuple(tensor.shape))
        for name, tensor in empty_network(config, kept).state_dict().items()
    }


def save(
    directory: Path,
    model: GPT,
    tokens: tokenizer.Tokenizer,
    *,
    dtype: str = "float32",
    origin: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint; an older one in that place is replaced."""
    wanted = layout(model.config, dtype)
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        kept, _ = wanted[name]
        weight = tensor.detach().cpu()
        if kept == torch.int8:
            tensors[name], tensors[name.removesuffix("weight") + "scale"] = quantize(weight)
        else:
            tensors[name] = weight.to(kept).contiguous()
    with replacing(directory) as draft:
        save_file(tensors, draft / WEIGHTS, metadata={"format": "pt"})
        write_config(draft, model.config)
        tokens.save(draft)
        n_params = sum(tensor.numel() for tensor in model.state_dict().values())
        write_manifest(draft, dtype=dtype, n_params=n_params, origin=origin or {})


def write_config(draft: Path, config: ModelConfig) -> None:
    """Write config.json."""
    text = json.dumps(config.to_dict(), indent=2)
    (draft / CONFIG).write_text(text + "\n", encoding="utf-8")


def write_manifest(
    draft: Path,
    *,
    dtype: str,
    n_params: int,
    origin: dict[str, Any],
    known: Mapping[str, str] | None = None,
) -> None:
    """Describe the files that lie in a draft; the last step before it takes its place.

    known: digests that were computed while the files were written.
    """
    known = known or {}
    files = {
        path.name: {"size": path.stat().st_size, "sha256": known.get(path.name) or sha256(path)}
        for path in sorted(draft.iterdir())
    }
    manifest = asdict(Manifest(dtype, n_params, files, origin))
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (draft / MANIFEST).write_text(text + "\n", encoding="utf-8")


def sha256(path: Path, progress: Callable[[int], object] = lambda _: None) -> str:
    """Hexadecimal digest of a file; progress gets the bytes read, piece by piece."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
            progress(len(piece))
    return digest.hexdigest()


def damaged(directory: Path) -> list[str]:
    """Names of the files whose contents are not what the manifest says."""
    files = models.read_manifest(directory).files
    return [name for name, facts in files.items() if not _intact(directory / name, facts)]


def _intact(path: Path, facts: Mapping[str, Any]) -> bool:
    try:
        return path.stat().st_size == facts["size"] and sha256(path) == facts.get("sha256")
    except OSError:
        return False
