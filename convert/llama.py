"""Llama 1 to 3, Mistral and models with their architecture: TinyLlama, SmolLM, SmolLM2, …

Touvron et al. 2023, arXiv:2302.13971; Jiang et al. 2023, arXiv:2310.06825. Names and defaults are
those of transformers' modeling_llama.py and modeling_mistral.py. Qwen builds on them, too.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from convert.family import OTHER_HEADS, ConfigReader, Family, Place
from convert.rotary import read_rotary, read_rotary_share
from gpt.config import ModelConfig
from gpt.errors import UserError

_EXPERTS = "a mixture of experts"
_NOT_SUPPORTED = {
    "num_experts": _EXPERTS,
    "num_local_experts": _EXPERTS,
    "n_routed_experts": _EXPERTS,
    "attn_logit_softcapping": "a soft cap of attention scores",
    "final_logit_softcapping": "a soft cap of logits",
    "kv_lora_rank": "latent attention",
    "no_rope_layers": "layers without rotary positions",
}
"""Settings of related networks → what they mean."""


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """Values that the configuration class of a family has for settings that are absent."""

    vocab_size: int = 32000
    block_size: int = 2048
    n_kv_head: int | None = None
    """None: as many as query heads."""
    head_dim: int | None = None
    """None: n_embd / n_head."""
    n_inner: int = 11008


def read_config(config: ConfigReader) -> ModelConfig:
    """Our configuration from that of transformers' Llama."""
    found = read_gated(config, Defaults())
    attention = config.boolean("attention_bias", default=False)
    mlp = config.boolean("mlp_bias", default=False)
    return replace(found, bias=attention or mlp, qkv_bias=attention)


def read_mistral(config: ConfigReader) -> ModelConfig:
    """Our configuration from that of transformers' Mistral."""
    found = read_gated(config, Defaults(block_size=131072, n_kv_head=8, n_inner=14336))
    window = config.optional_integer("sliding_window")
    if "sliding_window" not in config:
        window = 4096
    return within_window(config, found, window)


def read_gated(config: ConfigReader, defaults: Defaults) -> ModelConfig:
    """What all networks with Llama's blocks share: RMS norms, a gated MLP, rotary positions."""
    refuse_extras(config)
    n_embd = config.integer("hidden_size", default=4096)
    n_head = config.integer("num_attention_heads", default=32)
    block_size = config.integer("max_position_embeddings", default=defaults.block_size)
    n_kv_head, head_dim = (
        config.optional_integer(name) if name in config else default
        for name, default in (
            ("num_key_value_heads", defaults.n_kv_head),
            ("head_dim", defaults.head_dim),
        )
    )
    if read_rotary_share(config, "partial_rotary_factor", default=1.0) != 1:
        raise UserError("it rotates a part of each head (partial_rotary_factor), unlike its family")
    return ModelConfig(
        vocab_size=config.integer("vocab_size", default=defaults.vocab_size),
        block_size=block_size,
        n_layer=config.integer("num_hidden_layers", default=32),
        n_head=n_head,
        n_kv_head=None if n_kv_head == n_head else n_kv_head,
        n_embd=n_embd,
        head_dim=head_dim if head_dim and head_dim * n_head != n_embd else None,
        n_inner=config.integer("intermediate_size", default=defaults.n_inner),
        norm="rmsnorm",
        eps=config.number("rms_norm_eps", default=1e-6),
        activation=config.activation("hidden_act", default="silu"),
        gated=True,
        bias=False,
        positions="rotary",
        tied=config.boolean("tie_word_embeddings", default=False),
        **asdict(read_rotary(config, block_size)),
    )


def refuse_extras(config: ConfigReader) -> None:
    """Refuse, by name, what a related network has and ours has not."""
    for name, meaning in _NOT_SUPPORTED.items():
        if config.is_set(name):
            raise UserError(f"{name} asks for {meaning}, which is not supported")


def within_window(config: ConfigReader, found: ModelConfig, window: int | None) -> ModelConfig:
    """The configuration with a context in which every token is inside the sliding window.

    window: tokens that a token sees, itself included; None: all. As long as a text is not longer,
    the window changes nothing.
    """
    if window is None or window >= found.block_size:
        return found
    if window < 1:
        raise UserError(f"sliding_window is {window}; it must be at least 1")
    config.notices.append(
        f"the context is cut from {found.block_size:,} to {window:,} tokens: longer texts need "
        "attention within a sliding window, which is not supported"
    )
    return replace(found, block_size=window)


def constants(config: ConfigReader) -> dict[str, float]:
    """Biases of 0 where only attention or only the MLP has biases."""
    attention = config.boolean("attention_bias", default=False)
    mlp = config.boolean("mlp_bias", default=False)
    if attention == mlp:
        return {}
    return dict.fromkeys(BIASES_OF_MLP if attention else BIASES_OF_OUTPUT, 0.0)


BIASES_OF_MLP = ("h.{i}.mlp.gate.bias", "h.{i}.mlp.fc.bias", "h.{i}.mlp.proj.bias")
BIASES_OF_OUTPUT = ("h.{i}.attn.proj.bias",)

PLACES: dict[str, Place | str | None] = {
    "embed_tokens.weight": Place("wte.weight"),
    "layers.{i}.input_layernorm.weight": Place("h.{i}.ln_1.weight"),
    "layers.{i}.self_attn.q_proj.weight": Place("h.{i}.attn.qkv.weight", part=0),
    "layers.{i}.self_attn.k_proj.weight": Place("h.{i}.attn.qkv.weight", part=1),
    "layers.{i}.self_attn.v_proj.weight": Place("h.{i}.attn.qkv.weight", part=2),
    "layers.{i}.self_attn.q_proj.bias": Place("h.{i}.attn.qkv.bias", part=0),
    "layers.{i}.self_attn.k_proj.bias": Place("h.{i}.attn.qkv.bias", part=1),
    "layers.{i}.self_attn.v_proj.bias": Place("h.{i}.attn.qkv.bias", part=2),
    "layers.{i}.self_attn.o_proj.weight": Place("h.{i}.attn.proj.weight"),
    "layers.{i}.self_attn.o_proj.bias": Place("h.{i}.attn.proj.bias"),
    "layers.{i}.post_attention_layernorm.weight": Place("h.{i}.ln_2.weight"),
    "layers.{i}.mlp.gate_proj.weight": Place("h.{i}.mlp.gate.weight"),
    "layers.{i}.mlp.gate_proj.bias": Place("h.{i}.mlp.gate.bias"),
    "layers.{i}.mlp.up_proj.weight": Place("h.{i}.mlp.fc.weight"),
    "layers.{i}.mlp.up_proj.bias": Place("h.{i}.mlp.fc.bias"),
    "layers.{i}.mlp.down_proj.weight": Place("h.{i}.mlp.proj.weight"),
    "layers.{i}.mlp.down_proj.bias": Place("h.{i}.mlp.proj.bias"),
    "norm.weight": Place("ln_f.weight"),
    "lm_head.weight": Place("lm_head.weight"),
    # A buffer: the rotary frequencies, which follow from the configuration.
    "layers.{i}.self_attn.rotary_emb.inv_freq": None,
    "rotary_emb.inv_freq": None,
    **OTHER_HEADS,
}

FAMILY = Family(
    model_type="llama",
    places=PLACES,
    read_config=read_config,
    prefixes=("model.",),
    constants=constants,
    default_token_ids={"eos_token_id": 2},
)
MISTRAL = replace(
    FAMILY, model_type="mistral", read_config=read_mistral, constants=lambda config: {}
)
