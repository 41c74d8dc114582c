"""What a family of models has to say of itself: a table of names and a function for the config.

Everything that families share is here; convert/gpt2.py and convert/opt.py are only facts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
"""transformers' names → ours. gelu_new and gelu_fast are the tanh formula, written out."""


def unchanged(tensor: Tensor) -> Tensor:
    """As it is."""
    return tensor


@dataclass(frozen=True)
class Place:
    """Where one of their tensors goes."""

    name: str
    """Our parameter; `{i}` stands for the layer."""
    transform: Callable[[Tensor], Tensor] = unchanged
    """A view of their tensor as we store it."""
    part: int | None = None
    """Which third of our joined matrix it is: 0 q, 1 k, 2 v; None where it is all of it."""
    mismatch: str = ""
    """What a wrong shape usually means."""


@dataclass(frozen=True)
class Family:
    """A kind of network. See docs/convert.md for how to add one."""

    model_type: str
    """What its config.json says."""
    places: Mapping[str, Place | str | None]
    """Their name (`{i}` for the layer) → its place; None: known and dropped; a text: dropped,
    and the user is told that text."""
    read_config: Callable[[Values], ModelConfig]
    """From their configuration to ours; `tied` is what it says, before the weights are seen."""
    prefixes: tuple[str, ...] = ()
    """What may stand in front of a name; the first that fits is taken off."""
    renames: tuple[tuple[str, str], ...] = ()
    """Regular expressions and replacements that make old names new."""
    fills: Callable[[Values], dict[str, float]] = lambda values: {}
    """Parameters of ours (`{i}` for the layer) that this configuration leaves out → their value."""
    token_ids: Mapping[str, int] = field(default_factory=dict)
    """eos_token_id and so on, where the configuration does not name them."""


_CLASSES = "the classification head is dropped: it sorts texts and does not write them"
_ANSWERS = "the question-answering head is dropped: it marks an answer and does not write one"
_TOKENS = "the token-classification head is dropped: it labels a text and does not write it"
OTHER_HEADS: dict[str, str] = {
    "score.weight": _CLASSES,
    "classifier.weight": _TOKENS,
    "classifier.bias": _TOKENS,
    "qa_outputs.weight": _ANSWERS,
    "qa_outputs.bias": _ANSWERS,
}
"""Tensors of any family that are no part of a model that writes, and what the user is told."""


class Values:
    """A config.json that is not believed: each value is asked for by name and type.

    Several names are aliases. Raises UserError naming the value.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def integer(self, *names: str, default: int) -> int:
        """A whole number."""
        return self._get(names, default, lambda v: type(v) is int, "a whole number")  # type: ignore[no-any-return]

    def optional_integer(self, *names: str) -> int | None:
        """A whole number, or None where it is null or absent."""
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

    def activation(self, name: str, default: str) -> Activation:
        """The activation function by our name."""
        theirs = self.text(name, default=default)
        if theirs not in ACTIVATIONS:
            raise UserError(
                f"the activation {theirs[:50]!r} is none that convert knows: "
                f"{', '.join(ACTIVATIONS)}"
            )
        return ACTIVATIONS[theirs]

    def _get(self, names: tuple[str, ...], default: Any, fits: Any, kind: str) -> Any:
        found = {n: self._values[n] for n in names if self._values.get(n) is not None}
        for name, value in found.items():
            if not fits(value):
                raise UserError(f"{name} is {short(value)}; it must be {kind}")
            if value != next(iter(found.values())):
                raise UserError(f"{' and '.join(found)} contradict each other")
        return next(iter(found.values()), default)


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def short(value: Any) -> str:
    """A value for a sentence."""
    text = repr(value) if not isinstance(value, dict | list) else f"a {type(value).__name__}"
    return text if len(text) <= 50 else text[:50] + "…"


def transposed(tensor: Tensor) -> Tensor:
    """GPT-2's Conv1D keeps (in, out); OpenAI's own files have a 1 in front of it."""
    if tensor.ndim == 3 and tensor.shape[0] == 1:
        tensor = tensor[0]
    return tensor.t() if tensor.ndim == 2 else tensor


def without_first_two(tensor: Tensor) -> Tensor:
    """OPT's positions begin at row 2."""
    return tensor[2:] if tensor.ndim else tensor


def shape_after(place: Place, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that a tensor of theirs has in our network."""
    return tuple(place.transform(torch.empty(shape, device="meta")).shape)
