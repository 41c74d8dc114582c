"""Reads and writes checkpoints: directories with config.json, the files of the tokenizer,
model.safetensors and manifest.json.

A checkpoint is written to a hidden directory and then renamed, so it is never half written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gpt import models, text_file, tokenizer_files
from gpt.atomic_directory import replacing
from gpt.config import ModelConfig
from gpt.context import Context
from gpt.errors import UserError
from gpt.model import GPT
from gpt.models import CONFIG, MANIFEST, Manifest, read_config
from gpt.tokenizer import Tokenizer
from gpt.weights.quantize import DTYPES, PACKED, HalfGPT, SmallGPT, quantize
from gpt.weights.read import read_header, read_weights
from gpt.weights.safetensors_header import HeaderEntry

WEIGHTS = "model.safetensors"
_LARGEST_TOKENIZER = 1 << 27
"""Most bytes in any file except the weights."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass
class Checkpoint:
    """A network in memory, with the tokenizer and the manifest from its directory."""

    model: GPT
    tokenizer: Tokenizer
    manifest: Manifest
    name: str
    """Name of the directory."""

    @property
    def ends(self) -> frozenset[int]:
        """Ids that end a text: the configuration's eos_id and others that the converter found."""
        more = self.manifest.origin.get("also_ends")
        found = [self.model.config.eos_id, *(more if isinstance(more, list) else ())]
        return frozenset(i for i in found if type(i) is int)

    def new_context(self) -> Context:
        """A context that has read nothing yet."""
        return Context(self.model, self.tokenizer, self.ends)


def load(
    directory: Path, device: str = "cpu", dtype: str = "float32", *, packed: bool = False
) -> Checkpoint:
    """Read a checkpoint onto a device.

    Weights that are stored in another dtype are converted piece by piece, so that none is in
    memory twice.

    Args:
        dtype: a name in MEMORY_DTYPES, or "stored".
        packed: whether int8 weights are packed as gpt/weights/packed_int8.py describes, which
            compiled code cannot read.
    """
    manifest = models.read_manifest(directory)
    for name, facts in manifest.files.items():
        path = directory / name
        if not text_file.is_file(path) or path.stat().st_size != facts["size"]:
            raise UserError(
                f"{path} is missing or does not have the {facts['size']} bytes that were written; "
                "convert or train the model again"
            )
    _check_files(directory)
    model = load_network(directory, device, dtype, packed=packed, loud=manifest.loud_columns)
    try:
        tokens = tokenizer_files.load(directory)
    except UserError as error:  # the message may quote a damaged file at any length
        raise UserError(str(error)[:500]) from error
    return Checkpoint(model, tokens, manifest, directory.name)


def load_network(
    directory: Path,
    device: str = "cpu",
    dtype: str = "float32",
    *,
    packed: bool = False,
    loud: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> GPT:
    """Read only the network of a checkpoint, which needs no manifest yet.

    A CPU multiplies in float32, whatever the dtype of the weights; a GPU computes in that dtype.

    loud: as Manifest.loud_columns.
    """
    config, path = read_config(directory), directory / WEIGHTS
    if not text_file.is_file(path):
        raise UserError(f"{path} is missing or is not a file")
    try:
        header = read_header(path)
        stored = next((info.dtype for name, info in header.items() if name == "wte.weight"), None)
        is_stored_as = _NAMES.get(stored, "float32") if stored else "float32"
        asked = is_stored_as if dtype == "stored" else dtype
        _check_names(directory, header, layout(config, is_stored_as))
        model = empty_network(config, PACKED if packed and asked == "int8" else asked, device)
        read_weights(path, header, model, loud)
    except (SafetensorError, OSError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return model.to(device).requires_grad_(False).eval()


def empty_network(config: ModelConfig, dtype: str = "float32", device: str = "cpu") -> GPT:
    """A network with shapes but without numbers, of the class that a device needs for a dtype.

    A configuration that is too large for any memory is refused.
    """
    try:
        with torch.device("meta"), _Uninitialised():
            if device == "cpu":
                return SmallGPT(config, dtype)
            if dtype != "float32" and device.startswith("cuda"):
                return HalfGPT(config).to(DTYPES[dtype])
            return GPT(config).to(DTYPES[dtype])
    except RuntimeError as error:
        raise UserError(f"{CONFIG} describes an impossible network: {error}") from error


def _check_files(directory: Path) -> None:
    """Refuse a directory with a file that is not safe to open.

    That is a pipe, a device, a link to nothing, or a file that is too large, except the weights.
    """
    for path in directory.iterdir():
        if os.path.isdir(path):  # noqa: PTH112 (it never raises)
            continue
        if not text_file.is_file(path):
            raise UserError(f"{path} is not a file, or a link to a file that is gone")
        if path.name != WEIGHTS and (size := path.stat().st_size) > _LARGEST_TOKENIZER:
            raise UserError(f"{path} has {size} bytes; at most {_LARGEST_TOKENIZER} are read")


class _Uninitialised(TorchFunctionMode):
    """Skips random initialisation: without memory it only makes torch import sympy."""

    def __torch_function__(  # type: ignore[no-untyped-def]
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ):
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _check_names(
    directory: Path,
    header: Mapping[str, HeaderEntry],
    tensors: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
) -> None:
    """Refuse a file whose tensors do not have the names and shapes of a layout."""
    expected = {name: shape for name, (_, shape) in tensors.items()}
    found = {name: info.shape for name, info in header.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise UserError(
                f"{directory / WEIGHTS} does not fit {CONFIG}: {name} is "
                f"{found.get(name, 'missing')} in the file and "
                f"{expected.get(name, 'absent')} in the network"
            )


def layout(config: ModelConfig, dtype: str) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """The tensors of a checkpoint in their order: name → dtype and shape.

    An int8 matrix is followed by the scales of its rows; everything else stays float32.
    """
    found: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
    for name, tensor in empty_network(config).state_dict().items():
        shape = tuple(tensor.shape)
        if dtype != "int8":
            found[name] = DTYPES[dtype], shape
        elif len(shape) == 1 or name == "wpe.weight":
            found[name] = torch.float32, shape
        else:
            found[name] = torch.int8, shape
            found[name.removesuffix("weight") + "scale"] = torch.float32, shape[:1]
    return found


def save(
    directory: Path,
    model: GPT,
    tokens: Tokenizer,
    *,
    dtype: str = "float32",
    origin: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint. It replaces an older one in the same directory."""
    wanted = layout(model.config, dtype)
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        stored, _ = wanted[name]
        weight = tensor.detach().cpu()
        if stored == torch.int8:
            tensors[name], tensors[name.removesuffix("weight") + "scale"] = quantize(weight)
        else:
            tensors[name] = weight.to(stored).contiguous()
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
    """Write manifest.json, which describes all other files of a draft, so it comes last.

    Args:
        origin: where the weights came from; see `Manifest.origin`.
        known: SHA-256 digests that were computed while the files were written, by file name.
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
    """Hexadecimal digest of a file. progress: called with the size of each piece that is read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
            progress(len(piece))
    return digest.hexdigest()


def damaged(directory: Path) -> list[str]:
    """Names of the files whose size or digest is not the one in the manifest."""
    files = models.read_manifest(directory).files
    return [name for name, facts in files.items() if not _intact(directory / name, facts)]


def _intact(path: Path, facts: Mapping[str, Any]) -> bool:
    """Whether a file has the size and the digest that the manifest gives for it."""
    try:
        return (
            text_file.is_file(path)
            and path.stat().st_size == facts["size"]
            and sha256(path) == facts.get("sha256")
        )
    except OSError:
        return False
