"""What a family of models declares: where its tensors go and how its configuration is read.

Shared code is here; a family's own file contains only facts about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from gpt.config import Activation, ModelConfig
from gpt.errors import UserError

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "quick_gelu": "quick_gelu",
}
"""Names in transformers → ours. gelu_new and gelu_fast are the tanh formula, written out."""


def unchanged(tensor: Tensor) -> Tensor:
    """The tensor as it is."""
    return tensor


@dataclass(frozen=True)
class Place:
    """Which of our parameters a source tensor becomes, and how."""

    name: str
    """Our parameter; `{i}` stands for the layer."""
    transform: Callable[[Tensor], Tensor] = unchanged
    """Source tensor → its numbers in our layout, a view if possible."""
    part: int | None = None
    """Rows of our joined matrix: 0 q, 1 k, 2 v; None if the tensor is the whole parameter."""
    mismatch: str = ""
    """What a wrong shape usually means."""


Places = Mapping[str, Place | str | None]
"""Name of a source tensor (`{i}` for the layer) → its place. None: the tensor is dropped. A text:
it is dropped and the text is a notice to the user."""


@dataclass(frozen=True)
class Family:
    """A network architecture. docs/convert.md says how to add one."""

    model_type: str
    """Its name in config.json."""
    places: Places
    """Where its tensors go."""
    read_config: Callable[[ConfigReader], ModelConfig]
    """Source configuration → ours; `tied` is what config.json says, not yet what the weights
    are."""
    prefixes: tuple[str, ...] = ()
    """Possible prefixes of tensor names; the first that matches is removed."""
    renames: tuple[tuple[str, str], ...] = ()
    """Regular expressions and replacements that turn old names into current ones."""
    constants: Callable[[ConfigReader], dict[str, float]] = lambda config: {}
    """Our parameters (`{i}` for the layer) that this configuration leaves out → their value."""
    default_token_ids: Mapping[str, int] = field(default_factory=dict)
    """eos_token_id and so on, for configurations that do not set them."""
    places_by_size: Callable[[ModelConfig], Places] = lambda config: {}
    """Places that depend on sizes, such as the number of heads; they replace those in `places`."""

    def sized(self, config: ModelConfig) -> Family:
        """The family with the places for these sizes."""
        return replace(self, places={**self.places, **self.places_by_size(config)})


_CLASSES = "the classification head is dropped: it classifies texts and does not write them"
_ANSWERS = "the question-answering head is dropped: it marks an answer and does not write one"
_LABELS = "the token-classification head is dropped: it labels tokens and does not write text"
OTHER_HEADS: dict[str, str] = {
    "score.weight": _CLASSES,
    "classifier.weight": _LABELS,
    "classifier.bias": _LABELS,
    "qa_outputs.weight": _ANSWERS,
    "qa_outputs.bias": _ANSWERS,
}
"""Tensors of output heads that do not generate text → the notice to the user."""


class ConfigReader:
    """Reads single values of an untrusted config.json and checks the type of each.

    Several names of one value are aliases. Errors name the value.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self.notices: list[str] = []
        """What the user should know about the configuration."""

    def __contains__(self, name: str) -> bool:
        """Whether there is a value, even if it is null."""
        return name in self._config

    def integer(self, *names: str, default: int) -> int:
        """A whole number."""
        return self._get(names, default, lambda v: type(v) is int, "a whole number")  # type: ignore[no-any-return]

    def optional_integer(self, *names: str) -> int | None:
        """A whole number; None if it is null or absent."""
        return self._get(names, None, lambda v: type(v) is int, "a whole number")  # type: ignore[no-any-return]

    def number(self, *names: str, default: float) -> float:
        """A finite number."""
        return float(self._get(names, default, _is_finite, "a number"))

    def boolean(self, *names: str, default: bool) -> bool:
        """True or false."""
        return self._get(names, default, lambda v: type(v) is bool, "true or false")  # type: ignore[no-any-return]

    def text(self, *names: str, default: str) -> str:
        """A string."""
        return self._get(names, default, lambda v: type(v) is str, "a text")  # type: ignore[no-any-return]

    def texts(self, name: str) -> list[str]:
        """A list of strings; empty if it is null or absent."""
        return self._get((name,), [], _is_texts, "a list of texts")  # type: ignore[no-any-return]

    def table(self, *names: str) -> ConfigReader:
        """The first table with these names that has values; an empty one if there is none."""
        for name in names:
            if found := self._get((name,), {}, lambda v: isinstance(v, dict), "a table"):
                return ConfigReader(found)
        return ConfigReader({})

    def is_set(self, name: str) -> bool:
        """Whether there is a value that switches something on: not null, false, 0 or empty."""
        return bool(self._config.get(name))

    def activation(self, name: str, default: str) -> Activation:
        """An activation function by our name."""
        source_name = self.text(name, default=default)
        if source_name not in ACTIVATIONS:
            raise UserError(
                f"the activation {source_name[:20]!r} is not supported; convert knows "
                f"{', '.join(ACTIVATIONS)}"
            )
        return ACTIVATIONS[source_name]

    def _get(self, names: tuple[str, ...], default: Any, is_valid: Any, kind: str) -> Any:
        found = {n: self._config[n] for n in names if self._config.get(n) is not None}
        for name, value in found.items():
            if not is_valid(value):
                raise UserError(f"{name} is {short(value)}; it must be {kind}")
            if value != next(iter(found.values())):
                raise UserError(f"{' and '.join(found)} contradict each other")
        return next(iter(found.values()), default)


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(type(each) is str for each in value)


def short(value: Any) -> str:
    """A value of JSON for a message, at most 51 characters."""
    text = repr(value) if not isinstance(value, dict | list) else f"a {type(value).__name__}"
    return text if len(text) <= 50 else text[:50] + "…"


def transposed(tensor: Tensor) -> Tensor:
    """(in, out) → (out, in): Conv1D of GPT-2 stores (in, out), OpenAI's files (1, in, out)."""
    if tensor.ndim == 3 and tensor.shape[0] == 1:
        tensor = tensor[0]
    return tensor.t() if tensor.ndim == 2 else tensor


def without_first_two(tensor: Tensor) -> Tensor:
    """(n + 2, C) → (n, C): OPT's position embeddings start at row 2."""
    return tensor[2:] if tensor.ndim else tensor


def shape_after(place: Place, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a source tensor after the place's transform."""
    return tuple(place.transform(torch.empty(shape, device="meta")).shape)
