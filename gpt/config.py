"""The architecture of a network as plain numbers and names; it does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from gpt.errors import UserError

NormKind = Literal["layernorm", "rmsnorm"]
Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "quick_gelu"]
Positions = Literal["learned", "rotary"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes and choices of a network: GPT-2, OPT and the models that gpt/training trains.

    The defaults are GPT-2's.
    """

    vocab_size: int
    """Number of token ids: rows of the embedding and of the output matrix."""
    block_size: int
    """Tokens in the longest context."""
    n_layer: int
    """Number of blocks; with 0 and rotary positions it is the lecture's bigram model."""
    n_head: int
    """Attention heads in a block; each is n_embd / n_head wide."""
    n_embd: int
    """Width of the residual stream."""
    norm: NormKind = "layernorm"
    """Kind of normalisation."""
    norm_gain: bool = True
    """Whether norms have learned parameters."""
    norm_first: bool = True
    """Whether norms come before attention and MLP (GPT-2) or after the residual sum (opt-350m)."""
    final_norm: bool = True
    """Whether there is one more norm after the last block."""
    eps: float = 1e-5
    """Number that a norm adds to the variance (or mean square), so that it never divides by 0."""
    activation: Activation = "gelu_tanh"
    """The MLP's non-linearity."""
    gated: bool = False
    """Whether the MLP is gated; with silu this is SwiGLU (Shazeer 2020, arXiv:2002.05202)."""
    n_inner: int | None = None
    """Width inside the MLP; None: 4 n_embd."""
    bias: bool = True
    """Whether linear layers and layer norms have biases."""
    positions: Positions = "learned"
    """A learned vector for each position, or rotary ones (Su et al. 2021, arXiv:2104.09864)."""
    rope_theta: float = 10000.0
    """Base of the rotary wavelengths."""
    attn_scale: bool = True
    """Whether attention scores are divided by the square root of the head size."""
    attn_scale_by_layer: bool = False
    """Whether attention scores are also divided by the number of the layer, counted from 1."""
    embd_dim: int | None = None
    """Width of the token embedding, with projections to and from n_embd; None: n_embd, without."""
    tied: bool = True
    """Whether the output matrix is the embedding."""
    dropout: float = 0.0
    """Share of the outputs of the embedding, attention and MLP that training sets to 0."""
    attn_dropout: float = 0.0
    """Share of the attention weights that training sets to 0; slow on a CPU."""
    bos_id: int | None = None
    """Id of the token before every text; None: there is none."""
    eos_id: int | None = None
    """Id of the token that ends a text; None: there is none."""
    pad_id: int | None = None
    """Id of the token that fills up shorter texts of a batch; None: there is none."""

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_type(field.name, str(field.type), getattr(self, field.name))
        for name in ("vocab_size", "block_size", "n_head", "n_embd", "n_inner", "embd_dim"):
            self._require(name, lambda n: 1 <= n < 2**31, f"from 1 to {2**31 - 1}")
        self._require("n_layer", lambda n: 0 <= n <= 1024, "from 0 to 1024")
        if self.n_embd % self.n_head:
            raise UserError(
                f"the model's n_embd {self.n_embd} is not divisible by its n_head {self.n_head}"
            )
        if self.positions == "rotary" and self.head_size % 2:
            raise UserError(f"rotary positions need an even head size, not {self.head_size}")
        for name in ("eps", "rope_theta"):
            self._require(name, lambda x: 0 < x < 1e300, "above 0")
        for name in ("dropout", "attn_dropout"):
            self._require(name, lambda share: 0 <= share < 1, "0 or more and below 1")
        for name in ("bos_id", "eos_id", "pad_id"):
            self._require(
                name,
                lambda i: 0 <= i < self.vocab_size,
                f"an id of the vocabulary, from 0 to {self.vocab_size - 1}",
            )

    def _require(self, name: str, is_right: Callable[[Any], bool], what: str) -> None:
        """Refuse the value of a field, naming it, unless it is None or right."""
        value = getattr(self, name)
        if value is not None and not is_right(value):
            raise UserError(f"the model's {name} is {_short(value)}; it must be {what}")

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head

    @property
    def inner(self) -> int:
        """Width of the MLP."""
        return self.n_inner or 4 * self.n_embd

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for config.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The reverse of to_dict. Unknown fields and missing sizes are refused by name."""
        known = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping):
            raise UserError("the model's configuration must be an object with names and values")
        if unknown := sorted(set(values) - known):
            raise UserError(f"the model's configuration has an unknown field {_short(unknown[0])}")
        required = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")
        if missing := [name for name in required if name not in values]:
            raise UserError(f"the model's configuration lacks {missing[0]}")
        return cls(**values)


_CHOICES: dict[str, tuple[str, ...]] = {
    "NormKind": get_args(NormKind),
    "Activation": get_args(Activation),
    "Positions": get_args(Positions),
}
_TYPES: dict[str, tuple[str, tuple[type, ...]]] = {
    "int": ("a whole number", (int,)),
    "float": ("a number", (int, float)),
    "bool": ("true or false", (bool,)),
}
"""For each annotation: what a person calls it, and the types that are accepted."""


def _check_type(name: str, annotation: str, value: object) -> None:
    """Refuse a value of another type: configurations come from files, which may hold anything."""
    if annotation.endswith(" | None"):
        if value is None:
            return
        annotation = annotation.removesuffix(" | None")
    if choices := _CHOICES.get(annotation):
        if value not in choices:
            raise UserError(
                f"the model's {name} is {_short(value)}; it must be one of {', '.join(choices)}"
            )
        return
    noun, types = _TYPES[annotation]
    if not isinstance(value, types) or (annotation != "bool" and isinstance(value, bool)):
        raise UserError(f"the model's {name} is {_short(value)}; it must be {noun}")


def _short(value: object) -> str:
    """A value as at most 51 characters of text."""
    text = ascii(value)
    return text if len(text) <= 50 else text[:50] + "…"
