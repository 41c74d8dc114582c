"""Reads the tokenizer of a checkpoint, of any of the three kinds."""

from __future__ import annotations

import json
from pathlib import Path

from gpt.errors import UserError
from gpt.tokenizer import (
    CHARACTERS_FILE,
    JSON_FILE,
    MERGES_FILE,
    VOCAB_FILE,
    BPETokenizer,
    CharTokenizer,
    Tokenizer,
)


def load(directory: Path) -> Tokenizer:
    """The tokenizer in a checkpoint's directory."""
    try:
        if (path := directory / CHARACTERS_FILE).exists():
            return CharTokenizer(json.loads(path.read_text(encoding="utf-8")))
        if (path := directory / VOCAB_FILE).exists():
            vocab = json.loads(path.read_text(encoding="utf-8"))
            path = directory / MERGES_FILE
            return BPETokenizer(vocab, read_merges(path.read_text(encoding="utf-8")))
        if (path := directory / JSON_FILE).exists():
            from gpt.tokenizer_json import JsonTokenizer  # imports a library that few models need

            return JsonTokenizer(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"cannot read the tokenizer file {path}: {error}") from error
    raise UserError(
        f"{directory} has no tokenizer file ({CHARACTERS_FILE}, {VOCAB_FILE} or {JSON_FILE})"
    )


def read_merges(text: str) -> list[tuple[str, str]]:
    """The pairs in the text of a merges.txt, in order."""
    lines = [line.rstrip("\r") for line in text.split("\n")]
    lines = [line for line in lines if line and not line.startswith("#version")]
    merges = [tuple(line.split(" ")) for line in lines]
    if bad := next((line for line, pair in zip(lines, merges, strict=True) if len(pair) != 2), ""):
        raise UserError(f"merges.txt has a line that is not a pair: {bad[:50]!r}")
    return merges  # type: ignore[return-value]
