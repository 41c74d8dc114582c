"""Qwen 3 without experts, and models with its architecture.

Yang et al. 2025, arXiv:2505.09388. Llama's blocks with a norm of each query and key head. Names and
defaults are those of transformers' modeling_qwen3.py.
"""

from __future__ import annotations

from dataclasses import replace

from convert.family import ConfigReader, Family, Place
from convert.llama import BIASES_OF_MLP, Defaults, read_gated, within_window
from convert.llama import PLACES as LLAMA_PLACES
from convert.qwen2 import read_window
from gpt.config import ModelConfig


def read_config(config: ConfigReader) -> ModelConfig:
    """Our configuration from that of transformers."""
    found = read_gated(
        config,
        Defaults(vocab_size=151936, block_size=32768, n_kv_head=32, head_dim=128, n_inner=22016),
    )
    bias = config.boolean("attention_bias", default=False)
    return replace(within_window(config, found, read_window(config)), qk_norm=True, bias=bias)


def constants(config: ConfigReader) -> dict[str, float]:
    """Biases of 0 for the MLP, which has none, if attention has biases."""
    bias = config.boolean("attention_bias", default=False)
    return dict.fromkeys(BIASES_OF_MLP, 0.0) if bias else {}


PLACES: dict[str, Place | str | None] = {
    **LLAMA_PLACES,
    "layers.{i}.self_attn.q_norm.weight": Place("h.{i}.attn.q_norm.weight"),
    "layers.{i}.self_attn.k_norm.weight": Place("h.{i}.attn.k_norm.weight"),
}

FAMILY = Family(
    model_type="qwen3",
    places=PLACES,
    read_config=read_config,
    prefixes=("model.",),
    constants=constants,
)
