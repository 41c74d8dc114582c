"""GPT-NeoX and models with its architecture: Pythia, StableLM-Alpha, RedPajama-INCITE, …

Black et al. 2022, arXiv:2204.06745; Biderman et al. 2023, arXiv:2304.01373. Names and defaults are
those of transformers' modeling_gpt_neox.py.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

from torch import Tensor

from convert.family import OTHER_HEADS, ConfigReader, Family, Place, Places
from convert.llama import BIASES_OF_OUTPUT, refuse_extras
from convert.rotary import read_rotary, read_rotary_share
from gpt.config import ModelConfig


def read_config(config: ConfigReader) -> ModelConfig:
    """Our configuration from that of transformers."""
    refuse_extras(config)
    n_embd = config.integer("hidden_size", default=6144)
    n_head = config.integer("num_attention_heads", default=64)
    block_size = config.integer("max_position_embeddings", default=2048)
    head_size = n_embd // max(1, n_head)
    rotary_dim = int(
        head_size * read_rotary_share(config, "rotary_pct", "partial_rotary_factor", default=0.25)
    )
    return ModelConfig(
        vocab_size=config.integer("vocab_size", default=50432),
        block_size=block_size,
        n_layer=config.integer("num_hidden_layers", default=44),
        n_head=n_head,
        n_embd=n_embd,
        n_inner=config.integer("intermediate_size", default=24576),
        eps=config.number("layer_norm_eps", default=1e-5),
        activation=config.activation("hidden_act", default="gelu"),
        qkv_bias=config.boolean("attention_bias", default=True),
        parallel=config.boolean("use_parallel_residual", default=True),
        positions="rotary",
        rotary_dim=None if rotary_dim == head_size else rotary_dim,
        tied=config.boolean("tie_word_embeddings", default=False),
        **asdict(read_rotary(config, block_size, theta="rotary_emb_base")),
    )


def constants(config: ConfigReader) -> dict[str, float]:
    """A bias of 0 for attention's output if attention has no biases."""
    has_bias = config.boolean("attention_bias", default=True)
    return {} if has_bias else dict.fromkeys(BIASES_OF_OUTPUT, 0.0)


def parts_together(tensor: Tensor, *, n_head: int) -> Tensor:
    """Rows (nh, 3, hs), head by head, → (3, nh, hs): all of q, then all of k, then all of v."""
    if not tensor.ndim or tensor.shape[0] % (3 * n_head):
        return tensor  # its shape will be refused
    heads = tensor.reshape(n_head, 3, -1, *tensor.shape[1:])  # (nh, 3, hs, …)
    return heads.transpose(0, 1).flatten(0, 2)


def places_by_size(config: ModelConfig) -> Places:
    """The place of q, k and v, which are stored head by head."""
    together = partial(parts_together, n_head=config.n_head)
    return {
        f"layers.{{i}}.attention.query_key_value.{kind}": Place(
            f"h.{{i}}.attn.qkv.{kind}", together
        )
        for kind in ("weight", "bias")
    }


PLACES: dict[str, Place | str | None] = {
    "embed_in.weight": Place("wte.weight"),
    "layers.{i}.input_layernorm.weight": Place("h.{i}.ln_1.weight"),
    "layers.{i}.input_layernorm.bias": Place("h.{i}.ln_1.bias"),
    "layers.{i}.attention.dense.weight": Place("h.{i}.attn.proj.weight"),
    "layers.{i}.attention.dense.bias": Place("h.{i}.attn.proj.bias"),
    "layers.{i}.post_attention_layernorm.weight": Place("h.{i}.ln_2.weight"),
    "layers.{i}.post_attention_layernorm.bias": Place("h.{i}.ln_2.bias"),
    "layers.{i}.mlp.dense_h_to_4h.weight": Place("h.{i}.mlp.fc.weight"),
    "layers.{i}.mlp.dense_h_to_4h.bias": Place("h.{i}.mlp.fc.bias"),
    "layers.{i}.mlp.dense_4h_to_h.weight": Place("h.{i}.mlp.proj.weight"),
    "layers.{i}.mlp.dense_4h_to_h.bias": Place("h.{i}.mlp.proj.bias"),
    "final_layer_norm.weight": Place("ln_f.weight"),
    "final_layer_norm.bias": Place("ln_f.bias"),
    "embed_out.weight": Place("lm_head.weight"),
    # Buffers: the causal mask, the value of masked scores, the rotary frequencies.
    "layers.{i}.attention.bias": None,
    "layers.{i}.attention.masked_bias": None,
    "layers.{i}.attention.rotary_emb.inv_freq": None,
    "rotary_emb.inv_freq": None,
    **OTHER_HEADS,
}

FAMILY = Family(
    model_type="gpt_neox",
    places=PLACES,
    read_config=read_config,
    prefixes=("gpt_neox.",),
    renames=((r"^lm_head\.", "embed_out."),),
    constants=constants,
    default_token_ids={"eos_token_id": 2},
    places_by_size=places_by_size,
)
