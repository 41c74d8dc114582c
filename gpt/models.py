"""Which checkpoints are there and what they are called; it never opens the weights."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt import text_file
from gpt.errors import UserError

EMBEDDED = "shakespeare"
MANIFEST = "manifest.json"
FORMAT_VERSION = 1
DTYPES = ("float32", "float16", "bfloat16", "int8")
"""What weights can be stored as."""
FILE_NAME = re.compile(r"(?=.*\w)[\w.-]{1,200}", re.ASCII)
"""Names of files that a manifest or an index may give; none leads out of its directory."""
_LONGEST, _DEEPEST = 1 << 20, 20
"""Bytes and levels of a manifest."""


class NoSuchModelError(UserError):
    """Nothing of that name is here."""


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint directory says of itself."""

    dtype: str
    """How the weights are stored; one of DTYPES."""
    n_params: int
    """Numbers in the weights; a tied output matrix counts once."""
    files: dict[str, dict[str, Any]]
    """File name → {"size": bytes, "sha256": hexadecimal}."""
    origin: dict[str, Any] = field(default_factory=dict)
    """Where the weights came from: a training run's recipe and losses, or a hub's id."""
    format_version: int = FORMAT_VERSION
    """Raised when an older program could not read the directory."""


def home() -> Path:
    """The user's directory for models: GPT_TUI_HOME/models, or the platform's data directory."""
    if root := os.environ.get("GPT_TUI_HOME"):
        return Path(root) / "models"
    import platformdirs

    return platformdirs.user_data_path("gpt-tui") / "models"


def find(model: str) -> Path:
    """The directory of a model, by name or by path.

    Raises NoSuchModelError, naming the models that there are, where there is none of that name.
    """
    if model == EMBEDDED:
        return Path(__file__).parent / EMBEDDED
    for path in (home() / model, Path(model)):
        if model and text_file.is_file(path / MANIFEST):
            return path
    if os.path.isdir(model):  # noqa: PTH112 (it never raises)
        raise NoSuchModelError(
            f"{model} is a directory without {MANIFEST}, so it is no checkpoint of ours"
        )
    raise NoSuchModelError(f"there is no model {model!r}; there are: {', '.join(available())}")


def available() -> dict[str, Manifest]:
    """The embedded model and all in the user's directory: name → manifest.

    A model is called what its directory is called. What is no checkpoint is not listed.
    """
    directories = [find(EMBEDDED)]
    if home().is_dir():
        directories += sorted(path for path in home().iterdir() if not path.name.startswith("."))
    found = {}
    for directory in directories:
        with suppress(UserError):
            found[directory.name] = read_manifest(directory)
    return found


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a checkpoint. Raises UserError where it cannot be believed."""
    path = directory / MANIFEST
    text = text_file.read_small(path, _LONGEST)
    try:
        values = json.loads(text)
        version = values.pop("format_version")
        if type(version) is not int or version != FORMAT_VERSION:
            raise UserError(
                f"{path} has format version {str(version)[:20]}; this program reads "
                f"{FORMAT_VERSION}, so convert or train the model again"
            )
        manifest = Manifest(**values)
        _check(manifest)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {str(error)[:200]}") from error
    return manifest


def _check(manifest: Manifest) -> None:
    """Raise ValueError where a field is not what it should be."""
    if manifest.dtype not in DTYPES:
        raise ValueError(f"the dtype is none of {', '.join(DTYPES)}")
    if not _is_size(manifest.n_params):
        raise ValueError("n_params is no number of parameters")
    if not isinstance(manifest.origin, dict) or not _is_shallow(manifest.origin, _DEEPEST):
        raise ValueError("the origin is no table")
    for name, facts in manifest.files.items():
        if not FILE_NAME.fullmatch(name) or not _is_size(facts["size"]):
            raise ValueError(f"bad entry for {name[:50]!r}")
        if not isinstance(facts.get("sha256", ""), str):
            raise ValueError(f"the sha256 of {name[:50]!r} is no text")


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_shallow(value: object, depth: int) -> bool:
    """Whether lists and tables are in each other at most so many times."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth > 0 and all(_is_shallow(part, depth - 1) for part in parts)
