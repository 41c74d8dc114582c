"""Finds checkpoints by name and reads what describes them, never their weights."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gpt import text_file
from gpt.errors import UserError
from gpt.known_models import KNOWN
from gpt.nearest import nearest
from gpt.sanitize import one_line
from gpt.typed_values import is_number, or_none

if TYPE_CHECKING:
    from gpt.config import ModelConfig

Role = Literal["first", "second"]
"""Which of the two models of a comparison."""
EMBEDDED = "shakespeare"
"""Name of the model that comes with this package."""
MANIFEST = "manifest.json"
CONFIG = "config.json"
TOKENIZERS = {
    "characters.json": "characters",
    "vocab.json": "byte pairs (BPE)",
    "tokenizer.json": "tokenizer.json",
}
"""File of a tokenizer → its kind. A checkpoint has the first file that is there."""
LATEST = "last"
"""The directory of a training run that has its latest weights."""
FORMAT_VERSION = 1
DTYPES = ("float32", "float16", "bfloat16", "int8")
"""Names of the dtypes in which weights can be stored."""
MEMORY_DTYPES = (*DTYPES, "int4")
"""Names of the dtypes that weights can have in memory. int4 costs so much that one asks for it."""
FILE_NAME = re.compile(r"(?=.*\w)[\w.-]{1,200}", re.ASCII)
"""File names that a manifest or an index may contain; none of them leaves its directory."""
_LARGEST, _DEEPEST = 1 << 20, 20
"""Most bytes in a manifest or a configuration, and most levels of lists and objects inside each
other."""


class NoSuchModelError(UserError):
    """There is no model with that name.

    missing: what is missing, as the beginning of a sentence. advice: how to get it, as its end.
    """

    def __init__(self, missing: str, advice: str) -> None:
        super().__init__("; ".join(filter(None, (missing, advice))))
        self.missing = missing


@dataclass(frozen=True)
class Manifest:
    """The description of a checkpoint, in its directory."""

    dtype: str
    """Dtype in which the weights are stored; a name in DTYPES."""
    n_params: int
    """Number of parameters; a tied output matrix counts once."""
    files: dict[str, dict[str, Any]]
    """File name → {"size": bytes, "sha256": hexadecimal}."""
    origin: dict[str, Any] = field(default_factory=dict)
    """Where the weights came from: a training run's recipe and losses, or an id on a hub."""
    format_version: int = FORMAT_VERSION
    """Version of the format; it is increased if older programs cannot read the directory."""

    @property
    def divergence(self) -> dict[str, float | None]:
        """Dtype → the mean of KL(float32 ‖ dtype) on a text of the model, in nats a token.

        None: the dtype gives no finite numbers. Conversion measures it; else it is empty.
        """
        return divergence(self.origin)

    @property
    def loud_columns(self) -> dict[str, list[int]]:
        """Name of a matrix → the columns that stay in 16 bits if it has 8 or 4 bits in memory.

        Conversion measures them; else it is empty.
        """
        found = self.origin.get("loud_columns")
        if not isinstance(found, dict):
            return {}
        return {name: _columns(columns) for name, columns in found.items()}


def _columns(found: Any) -> list[int]:
    """The indices in a text of numbers, which may hold anything."""
    words = found.split() if isinstance(found, str) else []
    return [int(word) for word in words if word.isascii() and word.isdecimal() and len(word) < 9]


def divergence(origin: Mapping[str, Any]) -> dict[str, float | None]:
    """`Manifest.divergence` from what a manifest says of the origin, which may hold anything."""
    found = origin.get("divergence")
    if not isinstance(found, dict):
        return {}
    is_cost = or_none(is_number(0, math.inf))
    return {name: found[name] for name in MEMORY_DTYPES if name in found and is_cost(found[name])}


def home() -> Path:
    """The user's directory of models: GPT_TUI_HOME/models, or in the platform's data directory."""
    if root := os.environ.get("GPT_TUI_HOME"):
        return Path(root) / "models"
    import platformdirs

    return platformdirs.user_data_path("gpt-tui") / "models"


def find(model: str) -> Path:
    """The directory of a model, from its name or its path.

    If it is missing, NoSuchModelError names the models that exist.
    """
    if model == EMBEDDED:
        return Path(__file__).parent / EMBEDDED
    for path in (home() / model, Path(model)):
        if model and text_file.is_file(path / MANIFEST):
            return path
    if os.path.exists(model):  # noqa: PTH110 (it never raises)
        lacks = f": it has no {MANIFEST}" if os.path.isdir(model) else ""  # noqa: PTH112
        raise NoSuchModelError(f"{model} is not a checkpoint of this program{lacks}", _use(model))
    installed = available()
    hub = {name: known.hub_id for known in KNOWN for name in (known.hub_id, known.name)}
    near = nearest(model, (*installed, *hub))
    meant = f" (did you mean {near}?)" if near and near != model else ""
    missing = f"there is no model {model!r}{meant}; installed: {', '.join(installed)}"
    raise NoSuchModelError(missing, "" if near in installed else _how_to_get(hub.get(near or "")))


def _use(path: str) -> str:
    """What to do with a path that is not a checkpoint."""
    latest = Path(path) / LATEST
    if text_file.is_file(latest / MANIFEST):
        return f"it belongs to a training run; its latest weights are {latest}"
    if os.path.isdir(path) and not text_file.is_file(Path(path) / CONFIG):  # noqa: PTH112
        return ""
    return f"convert it first: python -m convert {path}"


def _how_to_get(hub_id: str | None) -> str:
    """The end of a sentence that says how to get a model; None: it is not known on the hub."""
    if hub_id:
        return f"`python -m convert {hub_id}` downloads it"
    return "`python -m convert NAME` downloads one from the Hugging Face hub, such as gpt2"


def available() -> dict[str, Manifest]:
    """The embedded model, those in the user's directory, and those in the working directory: name
    of the directory → manifest.

    Directories that are not checkpoints are left out, and those whose name means another model.
    """
    found: dict[str, Manifest] = {}
    for directory in (find(EMBEDDED), *_directories(home()), *_directories(Path())):
        with suppress(UserError):
            found.setdefault(directory.name, read_manifest(directory))
    return found


def _directories(parent: Path) -> list[Path]:
    """The checkpoints in a directory, in the order of their names."""
    try:
        names = sorted(path.name for path in parent.iterdir() if not path.name.startswith("."))
    except OSError:  # it does not exist, or may not be read
        return []
    return [parent / name for name in names if text_file.is_file(parent / name / MANIFEST)]


def source_of(path: Path) -> dict[str, Any]:
    """Place, size and age of a file, or of the files in a directory: what a change alters.

    A manifest has it as `origin["source"]` if the model was converted from there.
    """
    try:
        files = [path] if path.is_file() else [each for each in path.iterdir() if each.is_file()]
        facts = [each.stat() for each in files]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return {
        "path": one_line(str(path.resolve())),
        "size": sum(each.st_size for each in facts),
        "changed": max((each.st_mtime_ns for each in facts), default=0),
    }


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a checkpoint, checked."""
    path = directory / MANIFEST
    text = text_file.read_small(path, _LARGEST)
    try:
        values = json.loads(text)
        version = values.pop("format_version")
        if type(version) is not int or version != FORMAT_VERSION:
            raise UserError(
                f"{path} has format version {str(version)[:20]} and this program reads version "
                f"{FORMAT_VERSION}; convert or train the model again"
            )
        manifest = Manifest(**values)
        _check(manifest)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {str(error)[:200]}") from error
    return manifest


def read_config(directory: Path) -> ModelConfig:
    """The architecture of a checkpoint, from its config.json."""
    from gpt.config import ModelConfig  # the interface starts without it

    path = directory / CONFIG
    text = text_file.read_small(path, _LARGEST)
    try:
        return ModelConfig.from_dict(json.loads(text))
    except (ValueError, TypeError, RecursionError, UserError) as error:
        raise UserError(f"cannot use {path}: {error}") from error


def parameters(config: ModelConfig) -> dict[str, int]:
    """Number of parameters of each part of the network; a tied output matrix counts once."""
    C, E = config.n_embd, config.embd_dim or config.n_embd
    table = config.vocab_size * E
    between = C * E if config.embd_dim else 0  # from the embedding's width to the stream's, or back
    q_rows, *kv_rows = config.qkv_rows
    qkv = (q_rows + sum(kv_rows)) * (C + config.has_qkv_bias)
    head_norms = 2 * config.head_size if config.qk_norm else 0
    attention = qkv + head_norms + C * (q_rows + config.bias)
    matrices = (1 + config.gated) * config.inner
    feed_forward = matrices * (C + config.bias) + C * (config.inner + config.bias)
    has_bias = config.bias and config.norm != "rmsnorm"
    norm = C * (1 + has_bias) if config.norm_gain else 0
    return {
        "embedding": table + between,
        "positions": config.block_size * C if config.positions == "learned" else 0,
        "attention": config.n_layer * attention,
        "feed-forward": config.n_layer * feed_forward,
        "norms": (2 * config.n_layer + config.final_norm) * norm,
        "output": (0 if config.tied else table) + between,
    }


def _check(manifest: Manifest) -> None:
    """Raise ValueError if a field has the wrong type or range."""
    if manifest.dtype not in DTYPES:
        raise ValueError(f"the dtype must be one of {', '.join(DTYPES)}")
    if not _is_size(manifest.n_params):
        raise ValueError("n_params must be a whole number")
    if not isinstance(manifest.origin, dict) or not _is_shallow(manifest.origin, _DEEPEST):
        raise ValueError(f"the origin must be an object with at most {_DEEPEST} levels")
    for name, facts in manifest.files.items():
        if not FILE_NAME.fullmatch(name) or not _is_size(facts["size"]):
            raise ValueError(f"bad entry for {name[:50]!r}")
        if not isinstance(facts.get("sha256", ""), str):
            raise ValueError(f"the sha256 of {name[:50]!r} must be a text")


def _is_size(value: object) -> bool:
    """Whether it is a number of bytes or parameters."""
    return type(value) is int and 0 <= value < 2**63


def _is_shallow(value: object, depth: int) -> bool:
    """Whether at most `depth` lists and objects are inside each other."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_is_shallow(part, depth - 1) for part in parts)
