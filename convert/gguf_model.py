"""The architectures of GGUF files, as configurations and tensor names of transformers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from convert.family import short
from convert.gguf_file import GgufFile, View
from convert.gguf_header import Header
from convert.gguf_names import ARCHITECTURES, Architecture, Config
from gpt.errors import UserError

_FACTORS = "rope_freqs.weight"
_LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
"""What Llama 3.1 to 3.3 have in common. A file says only what they lead to."""
_OPTIONAL = {
    "vocab_size",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.sliding_window",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "tensor_data_layout",
}
_NEUTRAL: dict[str, Callable[[Any], bool]] = {
    "expert_count": lambda value: not value,
    "attention.causal": lambda value: value in (None, True),
    "rope.scale_linear": lambda value: value in (None, 0, 1),
    "attention.max_alibi_bias": lambda value: not value,
}
"""Metadata of other networks → whether a value changes nothing."""


def read_model(header: Header) -> tuple[Config, GgufFile]:
    """config.json and the tensors of transformers for a GGUF file.

    Refuses, by name, metadata and tensors that would make another network.
    """
    name = _value(header, "general.architecture", str)
    if name not in ARCHITECTURES:
        raise UserError(
            f"{header.path} holds the architecture {short(name)}; convert reads "
            f"{', '.join(ARCHITECTURES)} from GGUF files"
        )
    config = _read_config(header, name)
    return config, GgufFile(header, _views(header, ARCHITECTURES[name], config))


def _read_config(header: Header, name: str) -> Config:
    architecture = ARCHITECTURES[name]
    optional = {*_OPTIONAL, *_NEUTRAL}
    for key, value in header.metadata.items():
        short_key = key.removeprefix(f"{name}.")
        if short_key == key or short_key in architecture.keys or short_key in optional:
            continue
        if value:
            raise UserError(
                f"{header.path} sets {key[:100]} to {short(value)}, which convert does not know "
                "and which may mean another network; get a safetensors checkpoint of the model"
            )
    for key, is_neutral in _NEUTRAL.items():
        if not is_neutral(value := header.metadata.get(f"{name}.{key}")):
            raise UserError(
                f"{header.path} sets {name}.{key} to {short(value)}, which is not supported"
            )
    config: Config = {"model_type": architecture.model_type, **architecture.defaults}
    for key, target in architecture.keys.items():
        kind = bool if key == "use_parallel_residual" else float if "epsilon" in key else int
        config[target] = _value(header, f"{name}.{key}", kind)
    config["vocab_size"] = len(_value(header, "tokenizer.ggml.tokens", list))
    config["tie_word_embeddings"] = "output.weight" not in header.tensors
    if name != "gpt2":
        _add_rotary(header, name, config)
    if name in ("llama", "qwen3", "gptneox"):
        tensor = "attn_qkv" if name == "gptneox" else "attn_q"
        config["attention_bias"] = f"blk.0.{tensor}.bias" in header.tensors
        config["mlp_bias"] = "blk.0.ffn_up.bias" in header.tensors
    if window := _optional(header, f"{name}.attention.sliding_window", int):
        config.update(sliding_window=window, use_sliding_window=True, max_window_layers=0)
        config["model_type"] = {"llama": "mistral"}.get(name, architecture.model_type)
    return config


def _add_rotary(header: Header, name: str, config: Config) -> None:
    """The size of a head, how much of it is rotated, and with which wavelengths."""
    n_embd, n_head = config["hidden_size"], config["num_attention_heads"]
    if not n_head or n_embd < n_head:
        raise UserError(f"{header.path} has {n_embd} numbers for {n_head} heads")
    head_size = _optional(header, f"{name}.attention.key_length", int) or n_embd // n_head
    if _optional(header, f"{name}.attention.value_length", int) not in (None, head_size):
        raise UserError(f"{header.path} has values of another size than keys; not supported")
    rotated = _optional(header, f"{name}.rope.dimension_count", int)
    rotated = head_size if rotated is None else rotated
    n_kv_head = _optional(header, f"{name}.attention.head_count_kv", int) or n_head
    config["rope_theta"] = _optional(header, f"{name}.rope.freq_base", float) or 10000.0
    if name == "gptneox":
        if (head_size * n_head, n_kv_head) != (n_embd, n_head) or not 0 < rotated <= head_size:
            raise UserError(f"{header.path} has heads that a {name} model cannot have")
        share = rotated / head_size
        while int(head_size * share) < rotated:  # transformers rounds down
            share = math.nextafter(share, 1)
        config["rotary_pct"] = share
    else:
        config.update(num_key_value_heads=n_kv_head, head_dim=head_size)
        if rotated != head_size:
            raise UserError(
                f"{header.path} rotates {rotated} of the {head_size} numbers of a head, which is "
                f"not supported for {name}"
            )
    if scaling := _rope_scaling(header, name, config, head_size):
        config["rope_scaling"] = scaling


def _rope_scaling(header: Header, name: str, config: Config, head_size: int) -> Config | None:
    """The scaling of rotary wavelengths as config.json says it; None if there is none."""
    kind = _optional(header, f"{name}.rope.scaling.type", str) or "none"
    if kind != "none":
        factor = _optional(header, f"{name}.rope.scaling.factor", float)
        return {"rope_type": kind, "factor": factor}
    if _FACTORS not in header.tensors:
        return None
    is_right, factor = header.tensors[_FACTORS].shape == (head_size // 2,), 1.0
    if is_right:
        factors = GgufFile(header, {_FACTORS: View(_FACTORS)}).read(_FACTORS).double()
        factor = float(factors.max())
        expected = _llama3_factors(config["rope_theta"], head_size, factor)
        is_right = torch.allclose(factors, expected, rtol=1e-5)
    if not is_right:
        raise UserError(
            f"{header.path} scales rotary wavelengths by other factors than Llama 3.1 to 3.3 "
            f"({_FACTORS}); get a safetensors checkpoint of the model"
        )
    return None if factor == 1 else {"rope_type": "llama3", "factor": factor, **_LLAMA3}


def _llama3_factors(theta: float, head_size: int, factor: float) -> Tensor:
    """What Llama 3 divides its rotary frequencies by, (hs / 2); see transformers' rope_utils."""
    frequencies = theta ** (-torch.arange(0, head_size, 2).double() / head_size)
    turns = _LLAMA3["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    low, high = _LLAMA3["low_freq_factor"], _LLAMA3["high_freq_factor"]
    smooth = ((turns - low) / (high - low)).clamp(0, 1)
    return 1 / ((1 - smooth) / factor + smooth)


def _views(header: Header, architecture: Architecture, config: Config) -> dict[str, View]:
    """Name in transformers → tensor of the file."""
    views: dict[str, View] = {}
    for name in header.tensors:
        if name == _FACTORS and "rope_theta" in config:
            continue
        layer = re.match(r"blk\.(0|[1-9][0-9]{0,5})\.", name)
        pattern = name.replace(layer[0], "blk.{i}.", 1) if layer else name
        if pattern not in architecture.names:
            raise UserError(
                f"{header.path} holds {name[:100]!r}, which is not a tensor of a "
                f"{architecture.model_type} model that convert knows"
            )
        target = architecture.names[pattern].replace("{i}", layer[1] if layer else "")
        rows = architecture.rows.get(pattern.rpartition(".")[0])
        views[target] = View(name, rows and rows(config), pattern in architecture.transposed)
    return views


def _value(header: Header, key: str, kind: type) -> Any:
    if key not in header.metadata:
        raise UserError(f"{header.path} lacks {key}; get a newer GGUF file of the model")
    return _optional(header, key, kind)


def _optional(header: Header, key: str, kind: type) -> Any:
    """A value of the metadata; None if it is absent. Refuses another type."""
    value = header.metadata.get(key)
    if kind is float and type(value) is int:
        value = float(value)
    is_right = type(value) is kind
    if is_right and isinstance(value, int):
        is_right = 0 <= value < 2**31
    if value is not None and not is_right:
        raise UserError(
            f"{key} in {header.path} is {short(value)}; convert cannot use such a value"
        )
    return value
