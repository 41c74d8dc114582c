"""What GGUF files of each architecture hold: names and orders of rows as llama.cpp writes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

Config = dict[str, Any]


@dataclass(frozen=True)
class Architecture:
    """What a GGUF file of one architecture holds."""

    model_type: str
    """Its name in config.json."""
    keys: Mapping[str, str]
    """Metadata that must be there → their name in config.json."""
    names: Mapping[str, str]
    """Tensor (`{i}` for the layer) → its name in transformers."""
    rows: Mapping[str, Callable[[Config], Callable[[int], Tensor]]] = field(default_factory=dict)
    """Tensor (without weight or bias) → the order of its rows for a configuration."""
    transposed: frozenset[str] = frozenset()
    """Tensors that transformers stores as (in, out)."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Entries of config.json that the metadata cannot say."""


def _halves_together(config: Config, *, heads: str) -> Callable[[int], Tensor]:
    """llama.cpp rotates neighbours, transformers the halves of a head: (hs/2, 2) → (2, hs/2)."""

    def rows(n_rows: int) -> Tensor:
        n_head = config[heads]
        if not n_head or n_rows % (2 * n_head):
            return torch.arange(n_rows)  # the shape will be refused
        return torch.arange(n_rows).view(n_head, -1, 2).transpose(1, 2).reshape(-1)

    return rows


def _head_by_head(config: Config) -> Callable[[int], Tensor]:
    """llama.cpp stores all of q, then k, then v; GPT-NeoX q, k and v of each head together."""

    def rows(n_rows: int) -> Tensor:
        n_head = config["num_attention_heads"]
        if not n_head or n_rows % (3 * n_head):
            return torch.arange(n_rows)  # the shape will be refused
        return torch.arange(n_rows).view(3, n_head, -1).transpose(0, 1).reshape(-1)

    return rows


def _with_kinds(prefix: str, table: Mapping[str, str]) -> dict[str, str]:
    """Both tensors, weight and bias, of each place in a block."""
    return {
        f"blk.{{i}}.{name}.{kind}": f"{prefix}.{target}.{kind}"
        for name, target in table.items()
        for kind in ("weight", "bias")
    }


_SIZES = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
}
_LLAMA = Architecture(
    model_type="llama",
    keys={
        **_SIZES,
        "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    },
    names={
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
        **_with_kinds(
            "model.layers.{i}",
            {
                "attn_norm": "input_layernorm",
                "attn_q": "self_attn.q_proj",
                "attn_k": "self_attn.k_proj",
                "attn_v": "self_attn.v_proj",
                "attn_output": "self_attn.o_proj",
                "attn_q_norm": "self_attn.q_norm",
                "attn_k_norm": "self_attn.k_norm",
                "ffn_norm": "post_attention_layernorm",
                "ffn_gate": "mlp.gate_proj",
                "ffn_up": "mlp.up_proj",
                "ffn_down": "mlp.down_proj",
            },
        ),
    },
    rows={
        "blk.{i}.attn_q": partial(_halves_together, heads="num_attention_heads"),
        "blk.{i}.attn_k": partial(_halves_together, heads="num_key_value_heads"),
    },
    defaults={"hidden_act": "silu"},
)
_GPT2_MATRICES = {
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}

ARCHITECTURES: dict[str, Architecture] = {
    "llama": _LLAMA,
    "qwen2": Architecture("qwen2", _LLAMA.keys, _LLAMA.names, defaults=_LLAMA.defaults),
    "qwen3": Architecture("qwen3", _LLAMA.keys, _LLAMA.names, defaults=_LLAMA.defaults),
    "gptneox": Architecture(
        model_type="gpt_neox",
        keys={
            **_SIZES,
            "attention.layer_norm_epsilon": "layer_norm_eps",
            "use_parallel_residual": "use_parallel_residual",
        },
        names={
            "token_embd.weight": "gpt_neox.embed_in.weight",
            "output_norm.weight": "gpt_neox.final_layer_norm.weight",
            "output_norm.bias": "gpt_neox.final_layer_norm.bias",
            "output.weight": "embed_out.weight",
            **_with_kinds(
                "gpt_neox.layers.{i}",
                {
                    "attn_norm": "input_layernorm",
                    "attn_qkv": "attention.query_key_value",
                    "attn_output": "attention.dense",
                    "ffn_norm": "post_attention_layernorm",
                    "ffn_up": "mlp.dense_h_to_4h",
                    "ffn_down": "mlp.dense_4h_to_h",
                },
            ),
        },
        rows={"blk.{i}.attn_qkv": _head_by_head},
        defaults={"hidden_act": "gelu"},
    ),
    "gpt2": Architecture(
        model_type="gpt2",
        keys={
            "context_length": "n_positions",
            "embedding_length": "n_embd",
            "block_count": "n_layer",
            "feed_forward_length": "n_inner",
            "attention.head_count": "n_head",
            "attention.layer_norm_epsilon": "layer_norm_epsilon",
        },
        names={
            "token_embd.weight": "transformer.wte.weight",
            "position_embd.weight": "transformer.wpe.weight",
            "output_norm.weight": "transformer.ln_f.weight",
            "output_norm.bias": "transformer.ln_f.bias",
            "output.weight": "lm_head.weight",
            **_with_kinds(
                "transformer.h.{i}", {"attn_norm": "ln_1", "ffn_norm": "ln_2", **_GPT2_MATRICES}
            ),
        },
        transposed=frozenset(f"blk.{{i}}.{name}.weight" for name in _GPT2_MATRICES),
        defaults={"activation_function": "gelu_new"},
    ),
}
