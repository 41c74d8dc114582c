"""GPT-2 and what is built like it: DistilGPT-2, DialoGPT, Cerebras-GPT, CodeParrot and others.

Radford et al. 2019; names and defaults are those of transformers' modeling_gpt2.py.
"""

from __future__ import annotations

from convert.family import OTHER_HEADS, Family, Place, Values, transposed
from gpt.config import ModelConfig


def read_config(values: Values) -> ModelConfig:
    """Their configuration in our words."""
    return ModelConfig(
        vocab_size=values.integer("vocab_size", default=50257),
        block_size=values.integer("n_positions", "max_position_embeddings", default=1024),
        n_layer=values.integer("n_layer", "num_hidden_layers", default=12),
        n_head=values.integer("n_head", "num_attention_heads", default=12),
        n_embd=values.integer("n_embd", "hidden_size", default=768),
        n_inner=values.optional_integer("n_inner"),
        eps=values.number("layer_norm_epsilon", default=1e-5),
        activation=values.activation("activation_function", default="gelu_new"),
        attn_scale=values.boolean("scale_attn_weights", default=True),
        attn_scale_by_layer=values.boolean("scale_attn_by_inverse_layer_idx", default=False),
        tied=values.boolean("tie_word_embeddings", default=True),
    )


_CROSS = "the cross-attention is dropped: it needs an encoder, and here is none"
_VALUE = "the value head is dropped: it scores a text and does not write it"
_CHOICE = "the multiple-choice head is dropped: it scores a text and does not write it"
_MULTI_QUERY = "attention of another kind, such as multi-query, is not supported"

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
    # Buffers: the causal mask and the number that it puts in.
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
    token_ids={"eos_token_id": 50256},
    prefixes=("transformer.",),
    renames=(
        # OpenAI's TensorFlow names: model/h0/attn/c_attn/w
        (r"^model/", ""),
        (r"/", "."),
        (r"^h(\d+)\.", r"h.\1."),
        (r"^(wte|wpe)$", r"\1.weight"),
        # The suffixes of 2019.
        (r"\.(?:g|w|gamma)$", ".weight"),
        (r"\.(?:b|beta)$", ".bias"),
        (r"^lm_head\.decoder\.", "lm_head."),
    ),
)
