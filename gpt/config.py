"""The architecture of a network as plain numbers and names; it does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from gpt.errors import UserError

NormKind = Literal["layernorm", "rmsnorm"]
Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "quick_gelu"]
Positions = Literal["learned", "rotary"]
RopeScaling = Literal["linear", "llama3"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes and choices of a network: of GPT-2, OPT, GPT-NeoX, Llama, Qwen, and of our own.

    The defaults are GPT-2's.
    """

    vocab_size: int
    """Number of token ids: rows of the embedding and of the output matrix."""
    block_size: int
    """Tokens in the longest context."""
    n_layer: int
    """Number of blocks; with 0 and rotary positions it is the lecture's bigram model."""
    n_head: int
    """Attention heads in a block: heads of queries."""
    n_embd: int
    """Width of the residual stream."""
    n_kv_head: int | None = None
    """Heads of keys and values; each serves n_head / n_kv_head heads of queries (grouped-query
    attention, Ainslie et al. 2023, arXiv:2305.13245); None: n_head."""
    head_dim: int | None = None
    """Width of a head; None: n_embd / n_head."""
    qk_norm: bool = False
    """Whether each query and each key gets an RMS norm over its head before it is rotated, with
    gains that all heads share (Qwen3, arXiv:2505.09388)."""
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
    parallel: bool = False
    """Whether attention and MLP read the same residual stream and their outputs are added to it
    together (GPT-NeoX: Black et al. 2022, arXiv:2204.06745)."""
    bias: bool = True
    """Whether linear layers and layer norms have biases."""
    qkv_bias: bool | None = None
    """Whether queries, keys and values have biases; None: as `bias` says."""
    positions: Positions = "learned"
    """A learned vector for each position, or rotary ones (Su et al. 2021, arXiv:2104.09864)."""
    rope_theta: float = 10000.0
    """Base of the rotary wavelengths."""
    rotary_dim: int | None = None
    """Leading components of a head that are rotated; None: all."""
    rope_scaling: RopeScaling | None = None
    """How a context that was extended after training changes rotary positions: "linear" divides
    all of them by rope_factor (Chen et al. 2023, arXiv:2306.15595); "llama3" stretches only long
    wavelengths (Llama 3.1, arXiv:2407.21783); None: not at all."""
    rope_factor: float = 1.0
    """By how much rope_scaling stretches wavelengths."""
    rope_low: float = 1.0
    """llama3: wavelengths longer than rope_original / rope_low are stretched fully."""
    rope_high: float = 4.0
    """llama3: wavelengths shorter than rope_original / rope_high stay as they are."""
    rope_original: int | None = None
    """llama3: tokens in the longest context before it was extended."""
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
        for name in _SIZES:
            self._require(name, lambda n: 1 <= n < 2**31, f"from 1 to {2**31 - 1}")
        self._require("n_layer", lambda n: 0 <= n <= 1024, "from 0 to 1024")
        for name in ("eps", "rope_theta", "rope_factor", "rope_low", "rope_high"):
            self._require(name, lambda x: 0 < x < 1e15, "above 0 and below 1e15")
        self._check_heads()
        self._check_positions()
        if self.parallel and not self.norm_first:
            raise UserError("a model with parallel true needs norm_first true")
        for name in ("dropout", "attn_dropout"):
            self._require(name, lambda share: 0 <= share < 1, "0 or more and below 1")
        for name in ("bos_id", "eos_id", "pad_id"):
            self._require(
                name,
                lambda i: 0 <= i < self.vocab_size,
                f"an id of the vocabulary, from 0 to {self.vocab_size - 1}",
            )

    def _check_heads(self) -> None:
        if self.head_dim is None and self.n_embd % self.n_head:
            raise UserError(
                f"the model's n_embd {self.n_embd} is not divisible by its n_head {self.n_head}"
            )
        if self.n_head % self.n_kv:
            raise UserError(
                f"the model's n_head {self.n_head} is not divisible by its n_kv_head {self.n_kv}"
            )
        if self.n_head * self.head_size >= 2**31:
            raise UserError(
                f"the model's n_head {self.n_head} times its head_dim {self.head_size} is too large"
            )

    def _check_positions(self) -> None:
        if self.positions == "rotary" and self.rotary_dim is None and self.head_size % 2:
            raise UserError(f"rotary positions need an even head size, not {self.head_size}")
        self._require(
            "rotary_dim",
            lambda n: n % 2 == 0 and 2 <= n <= self.head_size,
            f"even, from 2 to the head size {self.head_size}",
        )
        if self.rope_scaling == "llama3":
            if self.rope_original is None:
                raise UserError("a model with rope_scaling llama3 needs rope_original")
            if self.rope_low >= self.rope_high:
                raise UserError(
                    f"the model's rope_low {self.rope_low} must be below its rope_high "
                    f"{self.rope_high}"
                )

    def _require(self, name: str, is_right: Callable[[Any], bool], what: str) -> None:
        """Refuse the value of a field, naming it, unless it is None or right."""
        value = getattr(self, name)
        if value is not None and not is_right(value):
            raise UserError(f"the model's {name} is {_short(value)}; it must be {what}")

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.head_dim or self.n_embd // self.n_head

    @property
    def n_kv(self) -> int:
        """Heads of keys and values."""
        return self.n_kv_head or self.n_head

    @property
    def qkv_rows(self) -> tuple[int, int, int]:
        """Rows of the queries, the keys and the values in their joined matrix."""
        return self.n_head * self.head_size, *(self.n_kv * self.head_size,) * 2

    @property
    def has_qkv_bias(self) -> bool:
        """Whether queries, keys and values have biases."""
        return self.bias if self.qkv_bias is None else self.qkv_bias

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


_SIZES = (
    "vocab_size block_size n_head n_embd n_kv_head head_dim n_inner embd_dim rope_original".split()
)
"""Fields that are sizes of at least 1."""
_CHOICES: dict[str, tuple[str, ...]] = {
    "NormKind": get_args(NormKind),
    "Activation": get_args(Activation),
    "Positions": get_args(Positions),
    "RopeScaling": get_args(RopeScaling),
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
