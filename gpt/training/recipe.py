"""What is trained on what, and how: read off a command, or off a run that was interrupted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from gpt import models, tokenizer_files
from gpt.config import ModelConfig
from gpt.errors import UserError
from gpt.tokenizer import CharTokenizer, Tokenizer
from gpt.training import data
from gpt.training.loop import TrainConfig
from gpt.training.presets import PRESETS

CHARACTERS = "characters"


@dataclass(frozen=True)
class Recipe:
    """Enough to repeat a run."""

    preset: str
    """What it was begun from."""
    data: str
    """The path of the text."""
    tokenizer: str
    """`characters`, or whose."""
    settings: TrainConfig
    network: dict[str, Any]
    """Fields of ModelConfig but the vocabulary."""

    @classmethod
    def from_options(cls, given: Mapping[str, Any]) -> Recipe:
        """A preset with changes. given: what the command names, and nothing else."""
        name = given.get("preset", "128")
        preset = PRESETS[name]
        return cls(
            name,
            str(given.get("data", "")),
            given.get("tokenizer", CHARACTERS),
            replace(preset.train, **_only(TrainConfig, given)),
            preset.model | _only(ModelConfig, given),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """What to_dict gave."""
        return cls(**{**values, "settings": TrainConfig(**values["settings"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def check_same(self, given: Mapping[str, Any]) -> None:
        """Raise UserError naming the first given option that this recipe has otherwise."""
        values = {**asdict(self), **asdict(self.settings), **self.network}
        for name, value in given.items():
            if name in values and name != "data" and values[name] != value:
                raise UserError(
                    f"the interrupted run has {name} {values[name]}, not {value}; leave it out, "
                    "or begin another run with --out"
                )


@dataclass(frozen=True)
class Material:
    """A recipe's text, in the shape that training wants."""

    path: Path
    sha256: str
    """Of the text as UTF-8."""
    tokenizer: Tokenizer
    corpus: data.Corpus
    config: ModelConfig
    unseen: list[str]
    """Characters that only the validation part has."""


def prepare(recipe: Recipe, say: Callable[[str], object]) -> Material:
    """Read a recipe's text; without one, fetch tiny Shakespeare. Raises UserError."""
    path = Path(recipe.data) if recipe.data else data.download_corpus(models.home().parent, say)
    text = data.read_text(path)
    tokens = _tokenizer(recipe.tokenizer, text)
    corpus = data.Corpus.from_text(text, tokens)
    config = ModelConfig.from_dict({"vocab_size": tokens.vocab_size} | recipe.network)
    corpus.require(config.block_size)
    unseen = data.unseen_characters(text) if recipe.tokenizer == CHARACTERS else []
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return Material(path, sha256, tokens, corpus, config, unseen)


def _tokenizer(name: str, text: str) -> Tokenizer:
    if name == CHARACTERS:
        return CharTokenizer.from_corpus(text)
    try:
        return tokenizer_files.load(models.find(name))
    except models.NoSuchModelError:
        if Path(name).is_dir():  # files of a tokenizer need no model around them
            return tokenizer_files.load(Path(name))
        raise


def _only(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}
