"""The architecture of a network as plain numbers and names; it knows no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from gpt.errors import UserError

NormKind = Literal["layernorm", "rmsnorm"]
Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "quick_gelu"]
Positions = Literal["learned", "rotary"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One block definition covers GPT-2, OPT and what we train ourselves.

    The defaults are GPT-2's. Raises UserError where the values make no network.
    """

    vocab_size: int
    """Rows of the embedding and of the output matrix."""
    block_size: int
    """The longest context in tokens."""
    n_layer: int
    """Number of blocks; 0 is the lecture's bigram model (with rotary positions)."""
    n_head: int
    """Attention heads of a block; each is n_embd / n_head wide."""
    n_embd: int
    """Width of the residual stream."""
    norm: NormKind = "layernorm"
    """Which normalisation."""
    norm_gain: bool = True
    """Whether a norm has learned parameters."""
    norm_first: bool = True
    """Norm before each sub-layer (GPT-2) or after its residual sum (opt-350m)."""
    final_norm: bool = True
    """One more norm behind the last block."""
    eps: float = 1e-5
    """Added to the variance inside a norm."""
    activation: Activation = "gelu_tanh"
    """The MLP's non-linearity."""
    gated: bool = False
    """Gated MLP; with silu this is SwiGLU (Shazeer 2020, arXiv:2002.05202)."""
    n_inner: int | None = None
    """Width of the MLP; None means 4 n_embd."""
    bias: bool = True
    """Biases in linear layers and in layer norms."""
    positions: Positions = "learned"
    """A learned vector per position, or rotary (Su et al. 2021, arXiv:2104.09864)."""
    rope_theta: float = 10000.0
    """Base of the rotary wavelengths."""
    attn_scale: bool = True
    """Divide attention scores by the square root of the head size."""
    attn_scale_by_layer: bool = False
    """Divide them by the layer's number (from 1) as well."""
    embd_dim: int | None = None
    """Width of the token embedding where projections lead in and out of the blocks."""
    tied: bool = True
    """The output matrix is the embedding."""
    dropout: float = 0.0
    """Share of the embedding's and each sub-layer's outputs that training drops."""
    attn_dropout: float = 0.0
    """Share of the attention weights that training drops; slow on a CPU."""
    bos_id: int | None = None
    """Token that stands before every text."""
    eos_id: int | None = None
    """Token that ends a text."""
    pad_id: int | None = None
    """Token without meaning."""

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_type(field.name, str(field.type), getattr(self, field.name))
        for name in ("vocab_size", "block_size", "n_head", "n_embd", "n_inner", "embd_dim"):
            value = getattr(self, name)
            if value is not None and not 1 <= value < 2**31:
                raise UserError(f"the model's {name} is {_short(value)}; it must be 1 or more")
        if not 0 <= self.n_layer <= 1024:
            raise UserError(f"the model's n_layer is {_short(self.n_layer)}; it must be 0 to 1024")
        if self.n_embd % self.n_head:
            raise UserError(f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}")
        if self.positions == "rotary" and self.head_size % 2:
            raise UserError(f"rotary positions need an even head size, not {self.head_size}")
        for name in ("eps", "rope_theta"):
            value = getattr(self, name)
            if not 0 < value < 1e300:
                raise UserError(f"the model's {name} is {_short(value)}; it must be above 0")
        for name in ("dropout", "attn_dropout"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise UserError(
                    f"the model's {name} is {_short(value)}; it must be 0 or more, below 1"
                )
        for name in ("bos_id", "eos_id", "pad_id"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < self.vocab_size:
                raise UserError(
                    f"{name} {_short(value)} is outside the vocabulary of {self.vocab_size} tokens"
                )

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
        """The reverse of to_dict; an unknown or missing name raises UserError."""
        known = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping):
            raise UserError("the model's configuration is no table of names and values")
        if unknown := sorted(set(values) - known):
            raise UserError(f"the model's configuration has an unknown field {_short(unknown[0])}")
        required = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")
        if missing := [name for name in required if name not in values]:
            raise UserError(f"the model's configuration lacks {missing[0]}")
        return cls(**values)


_NAMES: dict[str, tuple[str, ...]] = {
    "NormKind": get_args(NormKind),
    "Activation": get_args(Activation),
    "Positions": get_args(Positions),
}
_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,)}


def _check_type(name: str, kind: str, value: object) -> None:
    """A configuration comes from a file, so its types are checked and not believed."""
    if kind.endswith(" | None"):
        if value is None:
            return
        kind = kind.removesuffix(" | None")
    if kind in _NAMES:
        if value not in _NAMES[kind]:
            known = ", ".join(_NAMES[kind])
            raise UserError(f"{name} is {_short(value)}; it must be one of {known}")
    elif not isinstance(value, _TYPES[kind]) or (kind != "bool" and isinstance(value, bool)):
        raise UserError(f"the model's {name} is {_short(value)}, which is no {kind}")


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 50 else text[:50] + "…"
