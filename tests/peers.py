"""The same networks as transformers builds them, to compare numbers and speed with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from gpt.config import ModelConfig
from gpt.model import GPT

if TYPE_CHECKING:  # transformers takes seconds to import
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM


def random_gpt2(config: GPT2Config) -> tuple[GPT, GPT2LMHeadModel]:
    """A random GPT-2 of transformers and ours with the same weights."""
    from transformers import GPT2LMHeadModel

    theirs = GPT2LMHeadModel(config).eval()
    ours = GPT(
        ModelConfig(
            vocab_size=config.vocab_size,
            block_size=config.n_positions,
            n_layer=config.n_layer,
            n_head=config.n_head,
            n_embd=config.n_embd,
        )
    )
    renamed = {}
    for name, tensor in theirs.transformer.state_dict().items():
        short = name.replace("c_attn", "qkv").replace("c_fc", "fc").replace("c_proj", "proj")
        is_conv1d = ".attn." in name or ".mlp." in name
        renamed[short] = tensor.T.contiguous() if is_conv1d and tensor.ndim == 2 else tensor
    ours.load_state_dict(renamed, assign=True)
    return ours.eval().requires_grad_(False), theirs


def as_llama(ours: GPT) -> LlamaForCausalLM:
    """Our rotary, gated network without gains as a Llama, whose norms get gains of 1."""
    from transformers import LlamaConfig, LlamaForCausalLM

    c = ours.config
    theirs = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=c.vocab_size,
            hidden_size=c.n_embd,
            intermediate_size=c.inner,
            num_hidden_layers=c.n_layer,
            num_attention_heads=c.n_head,
            num_key_value_heads=c.n_kv,
            head_dim=c.head_size,
            rope_parameters=_rope_parameters(c),
            max_position_embeddings=c.block_size,
            rms_norm_eps=c.eps,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
        )
    ).eval()
    weights: dict[str, Tensor] = {
        "model.embed_tokens.weight": ours.wte.weight,
        "lm_head.weight": ours.lm_head.weight,
        "model.norm.weight": torch.ones(c.n_embd),
    }
    for i, block in enumerate(ours.h):
        prefix = f"model.layers.{i}."
        attn, mlp = cast(Any, block.attn), cast(Any, block.mlp)
        q, k, v = attn.qkv.weight.split(c.qkv_rows)
        weights |= {
            prefix + "self_attn.q_proj.weight": q,
            prefix + "self_attn.k_proj.weight": k,
            prefix + "self_attn.v_proj.weight": v,
            prefix + "self_attn.o_proj.weight": attn.proj.weight,
            prefix + "mlp.gate_proj.weight": mlp.gate.weight,
            prefix + "mlp.up_proj.weight": mlp.fc.weight,
            prefix + "mlp.down_proj.weight": mlp.proj.weight,
            prefix + "input_layernorm.weight": torch.ones(c.n_embd),
            prefix + "post_attention_layernorm.weight": torch.ones(c.n_embd),
        }
    theirs.load_state_dict(weights)
    return theirs


def _rope_parameters(c: ModelConfig) -> dict[str, Any]:
    """Our rotary positions as a configuration of transformers has them."""
    if c.rope_scaling is None:
        return {"rope_type": "default", "rope_theta": c.rope_theta}
    return {
        "rope_type": c.rope_scaling,
        "rope_theta": c.rope_theta,
        "factor": c.rope_factor,
        "low_freq_factor": c.rope_low,
        "high_freq_factor": c.rope_high,
        "original_max_position_embeddings": c.rope_original or c.block_size,
    }
