"""A checkpoint directory of transformers: which of its files are read, and safely how."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from convert.pickle_file import PickleFile
from convert.safetensors_file import SafetensorsFile
from convert.weights import WeightFile, Weights
from gpt import text_file
from gpt.errors import UserError
from gpt.models import FILE_NAME, MANIFEST

CONFIG = "config.json"
GENERATION = "generation_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
SINGLE = ("model.safetensors", "pytorch_model.bin")
"""Names of a single file with all weights, the preferred one first."""
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
"""Names of the index of shards, in the same order of formats."""
MAX_INDEX_BYTES = 1 << 27
_MAX_JSON_BYTES = 1 << 22
_MAX_TOKENIZER_BYTES = 1 << 27

OTHER_FORMATS = {
    "adapter_model.*": "an adapter: merge it into its base model and save the result",
    "*.gguf": "a GGUF file: name it with --file",
    "tf_model*.h5": "TensorFlow weights: load them with from_tf=True in transformers 4 and save",
    "flax_model*.msgpack": "Flax weights: load them with from_flax=True in transformers 4 and save",
    "*.ckpt.index": "a TensorFlow checkpoint: load it with transformers 4 and save",
    "*.onnx": "an ONNX graph: get the original checkpoint",
    "*.ot": "Rust weights: get the original checkpoint",
}
"""File names of weights that cannot be converted → what they are and what to do."""


def choose_weights(names: set[str]) -> str:
    """The file with the weights, or their index, among the file names of a checkpoint.

    Raises UserError naming what there is instead, to follow "DIRECTORY has ".
    """
    order = (SINGLE[0], INDEXES[0], SINGLE[1], INDEXES[1])
    if name := next((name for name in order if name in names), None):
        return name
    for pattern, advice in OTHER_FORMATS.items():
        if found := sorted(name for name in names if Path(name).match(pattern)):
            raise UserError(f"no {SINGLE[0]} or {SINGLE[1]}, but {found[0]}: {advice}")
    if shards := sorted(n for n in names if re.fullmatch(r".*-\d+-of-\d+\.(safetensors|bin)", n)):
        raise UserError(
            f"{shards[0]}, but not the index of the shards; get {INDEXES[0]} or {INDEXES[1]}"
        )
    seen = ", ".join(sorted(names)[:8]) or "nothing"
    raise UserError(f"no {SINGLE[0]} and no {SINGLE[1]}; its files are: {seen}")


def parse_index(index: Any, origin: object) -> dict[str, str]:
    """Tensor → file name, from a parsed index of shards.

    origin: how an error names the index. Refuses names that could lead out of the directory.
    """
    table = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(table, dict) or not table:
        raise UserError(f"{origin} has no weight_map; get the checkpoint again")
    for name in table.values():
        if not isinstance(name, str) or not FILE_NAME.fullmatch(name):
            raise UserError(f"{origin} names {str(name)[:100]!r}, which is not a file next to it")
    return table


def read_json(directory: Path, name: str, max_bytes: int = _MAX_JSON_BYTES) -> Any:
    """The contents of a JSON file."""
    path = checked_path(directory, name)
    try:
        return json.loads(text_file.read_small(path, max_bytes))
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def read_text(directory: Path, name: str, max_bytes: int = _MAX_TOKENIZER_BYTES) -> str | None:
    """The contents of a text file; None if it does not exist."""
    if not os.path.lexists(directory / name):
        return None
    return text_file.read_small(checked_path(directory, name), max_bytes)


def read_config(directory: Path) -> dict[str, Any]:
    """The contents of config.json. Refuses checkpoints of this program and quantised ones."""
    if (directory / MANIFEST).exists():
        raise UserError(f"{directory} is already a checkpoint of this program; use it as it is")
    if not os.path.lexists(directory / CONFIG):
        raise UserError(f"{directory} has no {CONFIG}, so it is not a transformers checkpoint")
    config = read_json(directory, CONFIG)
    if not isinstance(config, dict):
        raise UserError(f"{directory / CONFIG} is not a table of settings")
    if config.get("quantization_config"):
        raise UserError(
            f"{directory / CONFIG} describes a quantised model: get the original checkpoint"
        )
    return config


def open_weights(directory: Path) -> Weights:
    """All tensors of a checkpoint. None of them is read yet."""
    try:
        chosen = choose_weights({path.name for path in directory.iterdir()})
    except OSError as error:
        raise UserError(f"cannot read {directory}: {error.strerror}") from error
    except UserError as error:
        raise UserError(f"{directory} has {error}") from error
    file_of = None
    if chosen in INDEXES:
        file_of = parse_index(read_json(directory, chosen, MAX_INDEX_BYTES), directory / chosen)
    files: list[WeightFile] = []
    for name in sorted(set(file_of.values())) if file_of else [chosen]:
        path = checked_path(directory, name)
        files.append(SafetensorsFile(path) if name.endswith(".safetensors") else PickleFile(path))
    weights = Weights(files, file_of)
    if not weights.tensors:
        raise UserError(f"{directory / chosen} holds no tensors")
    return weights


def checked_path(directory: Path, name: str) -> Path:
    """The path of a regular file of a checkpoint. Refuses links that lead out of the checkpoint.

    The hub's cache keeps files in `blobs` and links to them from `snapshots`; this is allowed.
    """
    path, root = directory / name, directory.resolve()
    roots = [root]
    if root.parent.name == "snapshots":
        roots.append(root.parent.parent / "blobs")
    try:
        real = path.resolve()
        is_file = real.is_file()
    except (OSError, RuntimeError) as error:  # the name is too long, or a link points to itself
        reason = getattr(error, "strerror", None) or "it is a link to itself"
        raise UserError(f"cannot read {path}: {reason}") from error
    if not any(real.is_relative_to(allowed) for allowed in roots):
        raise UserError(f"{path} is a link that leads out of the checkpoint; copy the file there")
    if not is_file and path.is_symlink():
        raise UserError(f"{path} is a link to a file that is gone; download the model again")
    if not is_file:
        raise UserError(f"{path} is missing or is not a file")
    return path
