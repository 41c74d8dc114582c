"""A checkpoint directory that somebody else wrote: which of its files are read, and how."""

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
# In the order of preference. An index names shards of the same kind.
SINGLE = ("model.safetensors", "pytorch_model.bin")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_LARGEST_JSON = 1 << 22
_LARGEST_TOKENIZER = 1 << 27

OTHER_KINDS = {
    "adapter_model.*": "an adapter: merge it into the model that it adapts, and save that",
    "*.gguf": "a GGUF file, which is quantised: get the original checkpoint",
    "tf_model*.h5": "TensorFlow weights: load them with from_tf=True in transformers 4 and save",
    "flax_model*.msgpack": "Flax weights: load them with from_flax=True in transformers 4 and save",
    "*.ckpt.index": "a TensorFlow checkpoint: load it with transformers 4 and save",
    "*.onnx": "an ONNX graph: get the original checkpoint",
    "*.ot": "Rust weights: get the original checkpoint",
}


def choose_weights(names: set[str]) -> str:
    """Which of a checkpoint's files leads to its weights.

    Raises UserError that names what there is instead.
    """
    order = (SINGLE[0], INDEXES[0], SINGLE[1], INDEXES[1])
    if name := next((name for name in order if name in names), None):
        return name
    for pattern, advice in OTHER_KINDS.items():
        if found := sorted(name for name in names if Path(name).match(pattern)):
            raise UserError(f"no {SINGLE[0]} or {SINGLE[1]}, but {found[0]}: {advice}")
    if shards := sorted(n for n in names if re.fullmatch(r".*-\d+-of-\d+\.(safetensors|bin)", n)):
        raise UserError(f"{shards[0]} is there, but not the index that says what belongs to it")
    seen = ", ".join(sorted(names)[:8]) or "nothing"
    raise UserError(f"no {SINGLE[0]} and no {SINGLE[1]}; there is: {seen}")


def shards(index: Any, where: object) -> dict[str, str]:
    """Tensor → file name, from an index. Raises UserError where a name could lead elsewhere."""
    table = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(table, dict) or not table:
        raise UserError(f"{where} has no weight_map")
    for name in table.values():
        if not isinstance(name, str) or not FILE_NAME.fullmatch(name):
            raise UserError(f"{where} names {str(name)[:100]!r}, which is no file beside it")
    return table


def read_json(directory: Path, name: str, limit: int = _LARGEST_JSON) -> Any:
    """The contents of a JSON file. Raises UserError naming it."""
    path = inside(directory, name)
    try:
        return json.loads(text_file.read_small(path, limit))
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def read_text(directory: Path, name: str, limit: int = _LARGEST_TOKENIZER) -> str | None:
    """A file beside the weights; None where it is not there. Raises UserError naming it."""
    if not os.path.lexists(directory / name):
        return None
    return text_file.read_small(inside(directory, name), limit)


def read_config(directory: Path) -> dict[str, Any]:
    """Their config.json. Raises UserError where it is none, or of a quantised model."""
    if (directory / MANIFEST).exists():
        raise UserError(f"{directory} is a checkpoint of ours already; use it as it is")
    if not os.path.lexists(directory / CONFIG):
        raise UserError(f"{directory} has no {CONFIG}, so it is no checkpoint of transformers")
    config = read_json(directory, CONFIG)
    if not isinstance(config, dict):
        raise UserError(f"{directory / CONFIG} holds no configuration")
    if config.get("quantization_config"):
        raise UserError(f"{directory / CONFIG} is of a quantised model: get the original one")
    return config


def open_weights(directory: Path) -> Weights:
    """All tensors of a checkpoint, none of them read yet. Raises UserError naming the file."""
    try:
        chosen = choose_weights({path.name for path in directory.iterdir()})
    except OSError as error:
        raise UserError(f"cannot read {directory}: {error.strerror}") from error
    except UserError as error:
        raise UserError(f"{directory} holds {error}") from error
    declared = None
    if chosen in INDEXES:
        declared = shards(read_json(directory, chosen, limit=1 << 27), directory / chosen)
    files: list[WeightFile] = []
    for name in sorted(set(declared.values())) if declared else [chosen]:
        path = inside(directory, name)
        files.append(SafetensorsFile(path) if name.endswith(".safetensors") else PickleFile(path))
    weights = Weights(files, declared)
    if not weights.tensors:
        raise UserError(f"{directory / chosen} holds no tensors")
    return weights


def inside(directory: Path, name: str) -> Path:
    """A file of a checkpoint. Raises UserError where it is none, or a link that leads out.

    The hub's cache keeps its files in `blobs` and links to them, which is allowed.
    """
    path, root = directory / name, directory.resolve()
    roots = [root]
    if root.parent.name == "snapshots":
        roots.append(root.parent.parent / "blobs")
    try:
        real = path.resolve()
        is_file = real.is_file()
    except (OSError, RuntimeError) as error:  # a name that is too long, a link to itself
        reason = getattr(error, "strerror", None) or "it is a link to itself"
        raise UserError(f"cannot read {path}: {reason}") from error
    if not any(real.is_relative_to(allowed) for allowed in roots):
        raise UserError(f"{path} is a link that leads out of the checkpoint; copy the file there")
    if not is_file and path.is_symlink():
        raise UserError(f"{path} is a link to a file that is gone; fetch the model again")
    if not is_file:
        raise UserError(f"{path} is missing or no file")
    return path
