"""OPT and models with its architecture, such as Galactica.

Zhang et al. 2022, arXiv:2205.01068. Names and defaults are those of transformers' modeling_opt.py.
"""

from __future__ import annotations

from convert.family import OTHER_HEADS, ConfigReader, Family, Place, without_first_two
from gpt.config import ModelConfig


def read_config(config: ConfigReader) -> ModelConfig:
    """Our configuration from that of transformers."""
    n_embd = config.integer("hidden_size", "n_embd", default=768)
    embd_dim = config.integer("word_embed_proj_dim", default=n_embd)
    norm_first = config.boolean("do_layer_norm_before", default=True)
    return ModelConfig(
        vocab_size=config.integer("vocab_size", default=50272),
        block_size=config.integer("max_position_embeddings", "n_positions", default=2048),
        n_layer=config.integer("num_hidden_layers", "n_layer", default=12),
        n_head=config.integer("num_attention_heads", "n_head", default=12),
        n_embd=n_embd,
        n_inner=config.integer("ffn_dim", default=3072),
        norm_first=norm_first,
        final_norm=norm_first and not config.boolean("_remove_final_layer_norm", default=False),
        activation=config.activation("activation_function", default="relu"),
        embd_dim=embd_dim if embd_dim != n_embd else None,
        tied=config.boolean("tie_word_embeddings", default=True),
    )


def constants(config: ConfigReader) -> dict[str, float]:
    """Biases of 0 and norm weights of 1 for models without them, such as large Galactica."""
    values: dict[str, float] = {}
    if not config.boolean("enable_bias", default=True):
        values |= dict.fromkeys((name for name in _PARAMETERS if _is_linear_bias(name)), 0.0)
    if not config.boolean("layer_norm_elementwise_affine", default=True):
        norms = (name for name in _PARAMETERS if _is_norm(name))
        values |= {name: 1.0 if name.endswith("weight") else 0.0 for name in norms}
    return values


def _is_norm(name: str) -> bool:
    return ".ln_" in f".{name}"


def _is_linear_bias(name: str) -> bool:
    return name.endswith(".bias") and not _is_norm(name)


PLACES: dict[str, Place | str | None] = {
    "embed_tokens.weight": Place("wte.weight"),
    "embed_positions.weight": Place("wpe.weight", without_first_two),
    "project_in.weight": Place("proj_in.weight"),
    "layers.{i}.self_attn_layer_norm.weight": Place("h.{i}.ln_1.weight"),
    "layers.{i}.self_attn_layer_norm.bias": Place("h.{i}.ln_1.bias"),
    "layers.{i}.self_attn.q_proj.weight": Place("h.{i}.attn.qkv.weight", part=0),
    "layers.{i}.self_attn.k_proj.weight": Place("h.{i}.attn.qkv.weight", part=1),
    "layers.{i}.self_attn.v_proj.weight": Place("h.{i}.attn.qkv.weight", part=2),
    "layers.{i}.self_attn.q_proj.bias": Place("h.{i}.attn.qkv.bias", part=0),
    "layers.{i}.self_attn.k_proj.bias": Place("h.{i}.attn.qkv.bias", part=1),
    "layers.{i}.self_attn.v_proj.bias": Place("h.{i}.attn.qkv.bias", part=2),
    "layers.{i}.self_attn.out_proj.weight": Place("h.{i}.attn.proj.weight"),
    "layers.{i}.self_attn.out_proj.bias": Place("h.{i}.attn.proj.bias"),
    # In OPT, the "final" norm of a layer is the norm of its MLP.
    "layers.{i}.final_layer_norm.weight": Place("h.{i}.ln_2.weight"),
    "layers.{i}.final_layer_norm.bias": Place("h.{i}.ln_2.bias"),
    "layers.{i}.fc1.weight": Place("h.{i}.mlp.fc.weight"),
    "layers.{i}.fc1.bias": Place("h.{i}.mlp.fc.bias"),
    "layers.{i}.fc2.weight": Place("h.{i}.mlp.proj.weight"),
    "layers.{i}.fc2.bias": Place("h.{i}.mlp.proj.bias"),
    "final_layer_norm.weight": Place("ln_f.weight"),
    "final_layer_norm.bias": Place("ln_f.bias"),
    "project_out.weight": Place("proj_out.weight"),
    "lm_head.weight": Place("lm_head.weight"),
    **OTHER_HEADS,
}
_PARAMETERS = [place.name for place in PLACES.values() if isinstance(place, Place)]

FAMILY = Family(
    model_type="opt",
    places=PLACES,
    read_config=read_config,
    default_token_ids={"eos_token_id": 2, "pad_token_id": 1},
    prefixes=("model.decoder.", "decoder."),
    constants=constants,
)
