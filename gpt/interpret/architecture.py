"""The parts of a network with their shapes and sizes, from its configuration. Imports no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from gpt.config import ModelConfig
from gpt.record import Record

Group = Literal["embedding", "positions", "attention", "mlp", "norm", "output"]


@dataclass(frozen=True)
class Weight(Record):
    """A matrix or a vector of parameters."""

    name: str
    """As in the checkpoint, such as "h.0.attn.qkv.weight"."""
    group: Group
    layer: int
    """The block, from 1; 0 outside the blocks."""
    shape: tuple[int, ...]
    """(rows, columns) or (length,)."""

    @property
    def size(self) -> int:
        """Number of parameters."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Architecture(Record):
    """A network as its parts, in the order in which a token goes through them."""

    weights: tuple[Weight, ...]
    n_params: int
    """All parameters; a tied output matrix counts once, as the embedding."""
    notes: tuple[str, ...]
    """What the shapes do not say, a sentence each, such as the kind of the norms."""


def architecture(config: ModelConfig) -> Architecture:
    """Every weight of a network of this configuration, without building it."""
    C, E = config.n_embd, config.embd_dim or config.n_embd
    weights = [Weight("wte.weight", "embedding", 0, (config.vocab_size, E))]
    if config.embd_dim:
        weights.append(Weight("proj_in.weight", "embedding", 0, (C, E)))
    if config.positions == "learned":
        weights.append(Weight("wpe.weight", "positions", 0, (config.block_size, C)))
    for layer in range(1, config.n_layer + 1):
        weights += _block(config, layer)
    if config.final_norm:
        weights += _norm(config, "ln_f", 0)
    if config.embd_dim:
        weights.append(Weight("proj_out.weight", "output", 0, (E, C)))
    if not config.tied:
        weights.append(Weight("lm_head.weight", "output", 0, (config.vocab_size, E)))
    return Architecture(tuple(weights), sum(each.size for each in weights), tuple(_notes(config)))


def _block(config: ModelConfig, layer: int) -> list[Weight]:
    """The weights of one block in the order in which they act."""
    C, inner, at = config.n_embd, config.inner, f"h.{layer - 1}."
    q_rows, *kv_rows = config.qkv_rows
    qkv = _linear(
        f"{at}attn.qkv", "attention", layer, (q_rows + sum(kv_rows), C), config.has_qkv_bias
    )
    head_norms = [
        Weight(f"{at}attn.{name}.weight", "attention", layer, (config.head_size,))
        for name in ("q_norm", "k_norm")
    ]
    attention = [
        *qkv,
        *(head_norms if config.qk_norm else ()),
        *_linear(f"{at}attn.proj", "attention", layer, (C, q_rows), config.bias),
    ]
    gate = _linear(f"{at}mlp.gate", "mlp", layer, (inner, C), config.bias)
    mlp = [
        *(gate if config.gated else ()),
        *_linear(f"{at}mlp.fc", "mlp", layer, (inner, C), config.bias),
        *_linear(f"{at}mlp.proj", "mlp", layer, (C, inner), config.bias),
    ]
    first, second = (_norm(config, f"{at}{name}", layer) for name in ("ln_1", "ln_2"))
    if config.norm_first:
        return [*first, *attention, *second, *mlp]
    return [*attention, *first, *mlp, *second]


def _linear(
    name: str, group: Group, layer: int, shape: tuple[int, int], has_bias: bool
) -> list[Weight]:
    bias = [Weight(f"{name}.bias", group, layer, shape[:1])] if has_bias else []
    return [Weight(f"{name}.weight", group, layer, shape), *bias]


def _norm(config: ModelConfig, name: str, layer: int) -> list[Weight]:
    parts = {"weight": config.norm_gain}
    parts["bias"] = config.norm_gain and config.bias and config.norm == "layernorm"
    return [
        Weight(f"{name}.{part}", "norm", layer, (config.n_embd,))
        for part, is_there in parts.items()
        if is_there
    ]


_NORMS = {"layernorm": "LayerNorm", "rmsnorm": "RMSNorm"}


def _notes(config: ModelConfig) -> list[str]:
    """What a person should know besides the shapes."""
    kind = _NORMS[config.norm] + ("" if config.norm_gain else " without parameters")
    place = "before attention and MLP" if config.norm_first else "after the sum"
    notes = [
        f"{kind} {place}.",
        f"Positions are {config.positions}.",
        f"{config.n_head} heads of width {config.head_size}.",
        f"The MLP's activation is {config.activation}{', gated' if config.gated else ''}.",
    ]
    if config.n_kv != config.n_head:
        notes.append(f"{config.n_kv} heads of keys and values serve all heads of queries.")
    if config.parallel:
        notes.append("Attention and MLP read the same residual stream.")
    if config.tied:
        notes.append("The output matrix is the embedding.")
    return notes
