"""GPT-2 and models with its architecture: DistilGPT-2, DialoGPT, Cerebras-GPT, CodeParrot, …

Radford et al. 2019. Names and defaults are those of transformers' modeling_gpt2.py.
"""

from __future__ import annotations

from convert.family import OTHER_HEADS, ConfigReader, Family, Place, transposed
from gpt.config import ModelConfig


def read_config(config: ConfigReader) -> ModelConfig:
    """Our configuration from that of transformers."""
    return ModelConfig(
        vocab_size=config.integer("vocab_size", default=50257),
        block_size=config.integer("n_positions", "max_position_embeddings", default=1024),
        n_layer=config.integer("n_layer", "num_hidden_layers", default=12),
        n_head=config.integer("n_head", "num_attention_heads", default=12),
        n_embd=config.integer("n_embd", "hidden_size", default=768),
        n_inner=config.optional_integer("n_inner"),
        eps=config.number("layer_norm_epsilon", default=1e-5),
        activation=config.activation("activation_function", default="gelu_new"),
        attn_scale=config.boolean("scale_attn_weights", default=True),
        attn_scale_by_layer=config.boolean("scale_attn_by_inverse_layer_idx", default=False),
        tied=config.boolean("tie_word_embeddings", default=True),
    )


_CROSS = "the cross-attention is dropped: it needs an encoder, which is not supported"
_VALUE = "the value head is dropped: it scores a text and does not write it"
_CHOICE = "the multiple-choice head is dropped: it scores a text and does not write it"
_MULTI_QUERY = "multi-query attention and other variants are not supported"

PLACES: dict[str, Place | str | None] = {
    "wte.weight": Place("wte.weight"),
    "wpe.weight": Place("wpe.weight"),
    "h.{i}.ln_1.weight": Place("h.{i}.ln_1.weight"),
    "h.{i}.ln_1.bias": Place("h.{i}.ln_1.bias"),
    "h.{i}.attn.c_attn.weight": Place("h.{i}.attn.qkv.weight", transposed, mismatch=_MULTI_QUERY),
    "h.{i}.attn.c_attn.bias": Place("h.{i}.attn.qkv.bias", mismatch=_MULTI_QUERY),
    "h.{i}.attn.c_proj.weight": Place("h.{i}.attn.proj.weight", transposed),
    "h.{i}.attn.c_proj.bias": Place("h.{i}.attn.proj.bias"),
    "h.{i}.ln_2.weight": Place("h.{i}.ln_2.weight"),
    "h.{i}.ln_2.bias": Place("h.{i}.ln_2.bias"),
    "h.{i}.mlp.c_fc.weight": Place("h.{i}.mlp.fc.weight", transposed),
    "h.{i}.mlp.c_fc.bias": Place("h.{i}.mlp.fc.bias"),
    "h.{i}.mlp.c_proj.weight": Place("h.{i}.mlp.proj.weight", transposed),
    "h.{i}.mlp.c_proj.bias": Place("h.{i}.mlp.proj.bias"),
    "ln_f.weight": Place("ln_f.weight"),
    "ln_f.bias": Place("ln_f.bias"),
    "lm_head.weight": Place("lm_head.weight"),
    # Buffers: the causal mask and the value of masked scores.
    "h.{i}.attn.bias": None,
    "h.{i}.attn.masked_bias": None,
    "h.{i}.crossattention.bias": None,
    "h.{i}.crossattention.masked_bias": None,
    "h.{i}.crossattention.c_attn.weight": _CROSS,
    "h.{i}.crossattention.c_attn.bias": _CROSS,
    "h.{i}.crossattention.q_attn.weight": _CROSS,
    "h.{i}.crossattention.q_attn.bias": _CROSS,
    "h.{i}.crossattention.c_proj.weight": _CROSS,
    "h.{i}.crossattention.c_proj.bias": _CROSS,
    "h.{i}.ln_cross_attn.weight": _CROSS,
    "h.{i}.ln_cross_attn.bias": _CROSS,
    "multiple_choice_head.summary.weight": _CHOICE,
    "multiple_choice_head.summary.bias": _CHOICE,
    "v_head.summary.weight": _VALUE,
    "v_head.summary.bias": _VALUE,
    **OTHER_HEADS,
}

FAMILY = Family(
    model_type="gpt2",
    places=PLACES,
    read_config=read_config,
    default_token_ids={"eos_token_id": 50256},
    prefixes=("transformer.",),
    renames=(
        # OpenAI's TensorFlow names: model/h0/attn/c_attn/w
        (r"^model/", ""),
        (r"/", "."),
        (r"^h(\d+)\.", r"h.\1."),
        (r"^(wte|wpe)$", r"\1.weight"),
        # Suffixes of 2019.
        (r"\.(?:g|w|gamma)$", ".weight"),
        (r"\.(?:b|beta)$", ".bias"),
        (r"^lm_head\.decoder\.", "lm_head."),
    ),
)
