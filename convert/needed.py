"""Which files of a transformers checkpoint are needed, and which of them are missing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from convert.directory import (
    CHAT_TEMPLATE,
    CONFIG,
    GENERATION,
    INDEXES,
    MAX_INDEX_BYTES,
    choose_weights,
    parse_index,
    read_json,
)
from gpt.errors import UserError

_SETTINGS = (
    CONFIG,
    GENERATION,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    CHAT_TEMPLATE,
)
"""Files that save_pretrained of models, tokenizers and generation settings writes."""
_OLDER_TOKENIZER = ("vocab.json", "merges.txt")
_TEMPLATES = "additional_chat_templates"


def list_files(directory: Path) -> set[str]:
    """File names in a checkpoint, including those in its directory of chat templates."""
    try:
        files = {path.name for path in directory.iterdir()}
    except OSError as error:
        raise UserError(f"cannot read {directory}: {error.strerror}") from error
    return files | {f"{_TEMPLATES}/{path.name}" for path in (directory / _TEMPLATES).glob("*")}


def needed_files(names: Iterable[str]) -> list[str]:
    """The files among these that a conversion needs, except the weights."""
    names = set(names)
    settings = [*_SETTINGS, *(() if "tokenizer.json" in names else _OLDER_TOKENIZER)]
    templates = sorted(n for n in names if re.fullmatch(rf"{_TEMPLATES}/[\w.-]+\.jinja", n))
    return [name for name in settings if name in names] + templates


def first_missing(directory: Path, names: Iterable[str]) -> str | None:
    """A sentence about the first of these files that does not exist; None if all exist."""
    for path in (directory / name for name in names):
        if not os.path.exists(path):  # noqa: PTH110 (it never raises)
            what = "a link to a file that is gone" if path.is_symlink() else "missing"
            return f"{path} is {what}"
    return None


def why_incomplete(directory: Path) -> str | None:
    """A sentence about what an earlier download lacks; None if it is complete."""
    try:
        names = list_files(directory)
        chosen = choose_weights(names)
        missing = first_missing(directory, [CONFIG, *needed_files(names), chosen])
        if missing is None and chosen in INDEXES:
            index = read_json(directory, chosen, MAX_INDEX_BYTES)
            missing = first_missing(directory, parse_index(index, chosen).values())
        return missing
    except UserError as error:
        return str(error)
