"""Which files of a checkpoint of transformers are needed, and which of them are not there."""

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
    choose_weights,
    read_json,
    shards,
)
from gpt.errors import UserError

# What save_pretrained of models, tokenizers and generation settings writes beside the weights.
_FACTS = (
    CONFIG,
    GENERATION,
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    CHAT_TEMPLATE,
)
_OLDER_TOKENIZER = ("vocab.json", "merges.txt")
_TEMPLATES = "additional_chat_templates"
LARGEST_INDEX = 1 << 27
"""Bytes of an index of shards."""


def names(directory: Path) -> set[str]:
    """The files of a checkpoint, those in its directory of templates as well."""
    try:
        files = {path.name for path in directory.iterdir()}
    except OSError as error:
        raise UserError(f"cannot read {directory}: {error.strerror}") from error
    return files | {f"{_TEMPLATES}/{path.name}" for path in (directory / _TEMPLATES).glob("*")}


def wanted(there: Iterable[str]) -> list[str]:
    """Those of a checkpoint's files that are needed beside its weights."""
    there = set(there)
    facts = [*_FACTS, *(() if "tokenizer.json" in there else _OLDER_TOKENIZER)]
    templates = sorted(n for n in there if re.fullmatch(rf"{_TEMPLATES}/[\w.-]+\.jinja", n))
    return [name for name in facts if name in there] + templates


def gone(directory: Path, files: Iterable[str]) -> str | None:
    """Says which of some files is not there; None if all are."""
    for path in (directory / name for name in files):
        if not os.path.exists(path):  # noqa: PTH110 (it never raises)
            what = "a link to a file that is gone" if path.is_symlink() else "missing"
            return f"{path} is {what}"
    return None


def lacking(directory: Path) -> str | None:
    """Says what a download lacks; None if it is complete."""
    try:
        there = names(directory)
        chosen = choose_weights(there)
        lack = gone(directory, [CONFIG, *wanted(there), chosen])
        if lack is None and chosen in INDEXES:
            index = read_json(directory, chosen, LARGEST_INDEX)
            lack = gone(directory, shards(index, chosen).values())
        return lack
    except UserError as error:
        return str(error)
