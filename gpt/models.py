"""Which checkpoints are there and what they are called; it never opens the weights."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt.errors import UserError

EMBEDDED = "shakespeare"
MANIFEST = "manifest.json"
FORMAT_VERSION = 1
DTYPES = ("float32", "float16", "bfloat16", "int8")
"""What weights can be stored as."""


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
        if model and (path / MANIFEST).is_file():
            return path
    if Path(model).is_dir():
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
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values.pop("format_version")
        if version != FORMAT_VERSION:
            raise UserError(
                f"{path} has format version {version}; this program reads {FORMAT_VERSION}, "
                "so convert or train the model again"
            )
        manifest = Manifest(**values)
        for name, facts in manifest.files.items():
            if Path(name).name != name or not isinstance(facts["size"], int):
                raise ValueError(f"bad entry for {name!r}")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return manifest
