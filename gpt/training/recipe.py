"""A recipe, from a command or an interrupted run: network, text and training settings."""

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
"""Name of the tokenizer that makes a token of every character of the text."""
DEFAULT_PRESET = "128"


@dataclass(frozen=True)
class Recipe:
    """Everything that is needed to repeat a run."""

    preset: str
    """Name of the preset that the other fields started from."""
    data: str
    """Path of the text; empty for tiny Shakespeare."""
    tokenizer: str
    """CHARACTERS, or the model or directory that has the tokenizer."""
    settings: TrainConfig
    network: dict[str, Any]
    """Fields of ModelConfig, without the vocabulary."""

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Recipe:
        """A preset with changes. options: only the options that the command line has, by name."""
        name = options.get("preset", DEFAULT_PRESET)
        preset = PRESETS[name]
        return cls(
            name,
            str(options.get("data", "")),
            options.get("tokenizer", CHARACTERS),
            replace(preset.train, **_only(TrainConfig, options)),
            preset.model | _only(ModelConfig, options),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """The reverse of to_dict."""
        return cls(**{**values, "settings": TrainConfig(**values["settings"])})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def check_same(self, options: Mapping[str, Any]) -> None:
        """Raise UserError with the first option whose value differs from this recipe."""
        values = {**asdict(self), **asdict(self.settings), **self.network}
        for name, value in options.items():
            if name in values and name != "data" and values[name] != value:
                raise UserError(
                    f"the interrupted run has {name} {values[name]}, not {value}; leave the "
                    "option out, or start another run with --out"
                )


@dataclass(frozen=True)
class PreparedData:
    """A recipe's text, encoded for training."""

    path: Path
    sha256: str
    """Digest of the text as UTF-8."""
    tokenizer: Tokenizer
    corpus: data.Corpus
    config: ModelConfig
    unseen: list[str]
    """Characters that occur only in the validation part."""


def prepare_data(recipe: Recipe, say: Callable[[str], object]) -> PreparedData:
    """Read a recipe's text and encode it. A recipe without a text downloads tiny Shakespeare.

    say: is called with a sentence for the user before a download.
    """
    path = Path(recipe.data) if recipe.data else data.download_corpus(models.home().parent, say)
    text = data.read_text(path)
    tokenizer = _tokenizer(recipe.tokenizer, text)
    corpus = data.Corpus.from_text(text, tokenizer)
    config = ModelConfig.from_dict({"vocab_size": tokenizer.vocab_size} | recipe.network)
    corpus.check_length(config.block_size)
    unseen = data.unseen_characters(text) if recipe.tokenizer == CHARACTERS else []
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return PreparedData(path, sha256, tokenizer, corpus, config, unseen)


def _tokenizer(name: str, text: str) -> Tokenizer:
    if name == CHARACTERS:
        return CharTokenizer.from_corpus(text)
    try:
        return tokenizer_files.load(models.find(name))
    except models.NoSuchModelError:
        if Path(name).is_dir():  # a tokenizer's files without a model
            return tokenizer_files.load(Path(name))
        raise


def _only(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those values that are fields of a dataclass."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}
