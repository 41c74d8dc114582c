"""The parts of a tokenizer.json: which of them put a blank before a text or take it away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer


def flatten(part: Any, inner: str) -> Iterator[dict[str, Any]]:
    """A part of a tokenizer.json, then the parts inside it, which are its field `inner`."""
    if isinstance(part, dict):
        yield part
        for each in part.get(inner) or []:
            yield from flatten(each, inner)


def drops_blank(values: dict[str, Any]) -> bool:
    """Whether decoding leaves out the blank at the start of a text."""
    parts = {str(part.get("type")): part for part in flatten(values.get("decoder"), "decoders")}
    if found := parts.get("Strip"):
        return found.get("content") == " " and found.get("start", 0) > 0
    if found := parts.get("Metaspace"):
        return _puts_blank(found)
    return "WordPiece" in parts or (not parts and values["model"].get("type") == "WordLevel")


def _puts_blank(part: dict[str, Any]) -> bool:
    """Whether a part of type Metaspace, in the format of any version, puts a blank first."""
    return bool(part.get("prepend_scheme", "always") != "never" and part.get("add_prefix_space", 1))


def without_prefix(values: dict[str, Any]) -> Tokenizer | None:
    """A tokenizer without vocabulary whose other parts put no blank before a text.

    None if the tokenizer does not put one.
    """
    parts = {
        "normalizer": _changed(values.get("normalizer"), "normalizers"),
        "pre_tokenizer": _changed(values.get("pre_tokenizer"), "pretokenizers"),
    }
    if all(parts[name] == values.get(name) for name in parts):
        return None
    model = {"type": "BPE", "vocab": {}, "merges": []}
    return Tokenizer.from_str(json.dumps({"version": "1.0", "model": model, **parts}))


def _changed(part: Any, inner: str) -> Any:
    """A normaliser or pre-tokenizer that puts no blank before a text; None if nothing is left."""
    if not isinstance(part, dict):
        return part
    kind = part.get("type")
    if kind == "Sequence":
        return {
            **part,
            inner: [p for each in part.get(inner) or [] if (p := _changed(each, inner))],
        }
    if kind == "Prepend":
        return None
    if kind == "Metaspace" and _puts_blank(part):
        return {**part, "prepend_scheme": "never", "add_prefix_space": False}
    if kind == "ByteLevel" and part.get("add_prefix_space"):
        return {**part, "add_prefix_space": False}
    return part
