"""A GGUF file as a checkpoint of transformers, so that all that follows needs no second way."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from convert.directory import CHAT_TEMPLATE, CONFIG, GENERATION
from convert.gguf_header import MAGIC, Header, read_header
from convert.gguf_model import read_model
from convert.gguf_tokenizer import read_settings, read_tokenizer
from convert.weights import Weights
from gpt.errors import UserError


@dataclass(frozen=True)
class UnpackedGguf:
    """What a GGUF file holds, in the files and under the names of transformers."""

    path: Path
    """The file."""
    directory: Path
    """config.json, tokenizer.json and so on, of the file's metadata."""
    weights: Weights
    """Its tensors, which stay in the file."""
    notices: tuple[str, ...]
    """What the user should know."""
    owner: TemporaryDirectory[str]
    """Removes the directory once nothing refers to it."""


def is_gguf(path: Path) -> bool:
    """Whether this is a file that is, or claims to be, in GGUF."""
    try:
        with path.open("rb") as file:
            return path.suffix.lower() == ".gguf" or file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def unpack(path: Path) -> UnpackedGguf:
    """Read the header of a GGUF file, and write its metadata as save_pretrained would have done."""
    header = read_header(path)
    if header.metadata.get("split.count", 1) not in (0, 1):
        raise UserError(
            f"{path} is a part of a model that was split; join the parts with llama-gguf-split "
            "--merge of llama.cpp"
        )
    config, file = read_model(header)
    tokenizer_config, generation = read_settings(header)
    files = {
        CONFIG: config,
        "tokenizer.json": read_tokenizer(header),
        "tokenizer_config.json": tokenizer_config,
        GENERATION: generation,
    }
    owner = TemporaryDirectory(prefix="gpt-tui-", ignore_cleanup_errors=True)
    directory = Path(owner.name)
    for name, values in files.items():
        (directory / name).write_text(json.dumps(values), encoding="utf-8")
    template = header.metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        (directory / CHAT_TEMPLATE).write_text(template, encoding="utf-8", newline="\n")
    notices = tuple(_notices(header, template))
    return UnpackedGguf(path, directory, Weights([file]), notices, owner)


def _notices(header: Header, template: Any) -> list[str]:
    """What is lost or changed."""
    notices = []
    plain = {"F32", "F16", "BF16"}
    if packed := sorted({entry.kind for entry in header.tensors.values()} - plain):
        notices.append(
            f"the weights are quantised ({', '.join(packed)}); they are unpacked to float32 "
            "without a change, unless --dtype says otherwise"
        )
    if template is not None and not isinstance(template, str):
        notices.append("the chat template is not a text; ignored")
    if header.metadata.get("tokenizer.ggml.add_eos_token") is True:
        notices.append("the file asks for an end-of-text token after every text; ignored")
    return notices
