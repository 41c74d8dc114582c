"""Qwen 2 and 2.5, and models with their architecture.

Yang et al. 2024, arXiv:2407.10671. Llama's blocks with biases on q, k and v alone. Names and
defaults are those of transformers' modeling_qwen2.py.
"""

from __future__ import annotations

from dataclasses import replace

from convert.family import ConfigReader, Family
from convert.llama import PLACES, Defaults, read_gated, within_window
from gpt.config import ModelConfig
from gpt.errors import UserError

_LAYER_TYPES = {"full_attention", "sliding_attention"}


def read_config(config: ConfigReader) -> ModelConfig:
    """Our configuration from that of transformers."""
    found = read_gated(
        config, Defaults(vocab_size=151936, block_size=32768, n_kv_head=32, n_inner=22016)
    )
    return replace(within_window(config, found, read_window(config)), qkv_bias=True)


def read_window(config: ConfigReader) -> int | None:
    """Tokens that a layer with a sliding window sees; None if no layer has one."""
    kinds = config.texts("layer_types")
    if unknown := sorted(set(kinds) - _LAYER_TYPES):
        raise UserError(f"layer_types asks for {unknown[0][:50]!r}, which is not supported")
    if not config.boolean("use_sliding_window", default=False):
        return None
    window = config.optional_integer("sliding_window")
    if "sliding_window" not in config:
        window = 4096
    if kinds:
        return window if "sliding_attention" in kinds else None
    n_layer = config.integer("num_hidden_layers", default=32)
    return window if config.integer("max_window_layers", default=28) < n_layer else None


FAMILY = Family(model_type="qwen2", places=PLACES, read_config=read_config, prefixes=("model.",))
