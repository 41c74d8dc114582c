"""Writes tiny models of transformers as GGUF files, as llama.cpp's converter does.

Names of tensors and metadata are those of the `gguf` package, not of convert.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Kind

from gpt.tokenizer import byte_alphabet
from tests.convert.conftest import MERGES

if TYPE_CHECKING:  # transformers takes seconds to import
    from transformers import PreTrainedModel as Model

Array = np.ndarray[Any, Any]
SetTokenizer = Callable[[gguf.GGUFWriter], None]
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gpt_neox": "gptneox",
    "gpt2": "gpt2",
}
"""Type of a model in transformers → its architecture in llama.cpp."""


def byte_level(
    *,
    pre: str = "gpt-2",
    n_tokens: int = 300,
    merges: list[tuple[str, str]] = MERGES,
    **flags: bool,
) -> SetTokenizer:
    """A byte-level tokenizer whose special, user-defined and unused tokens come last."""
    tokens = [*byte_alphabet(), *(a + b for a, b in merges)]
    types = [NORMAL] * len(tokens)
    for token, kind in (("<|end|>", CONTROL), ("<|start|>", CONTROL), ("<tag>", USER_DEFINED)):
        tokens.append(token)
        types.append(kind)
    end = len(tokens) - 3
    for i in range(len(tokens), n_tokens):
        tokens.append(f"[PAD{i}]")
        types.append(UNUSED)

    def set_tokenizer(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        writer.add_token_merges([f"{a} {b}" for a, b in merges])
        writer.add_eos_token_id(end)
        writer.add_bos_token_id(end + 1)
        writer.add_add_bos_token(flags.get("add_bos", False))

    return set_tokenizer


def sentence_piece(
    scores: Mapping[str, float], *, n_tokens: int = 0, add_prefix: bool = True
) -> SetTokenizer:
    """A SentencePiece tokenizer: unknown, begin, end, the bytes, then pieces with scores."""
    special = {"<unk>": UNKNOWN, "<s>": CONTROL, "</s>": CONTROL}
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *scores]
    types = [*special.values(), *[BYTE] * 256, *[NORMAL] * len(scores)]
    values = [0.0] * 259 + list(scores.values())
    for i in range(len(tokens), n_tokens):
        tokens.append(f"<unused{i}>")
        types.append(UNUSED)
        values.append(-1000.0)

    def set_tokenizer(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_list(tokens)
        writer.add_token_scores(values)
        writer.add_token_types(types)
        writer.add_unk_token_id(0)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_add_space_prefix(add_prefix)

    return set_tokenizer


def write_gguf(
    path: Path,
    model: Model,
    set_tokenizer: SetTokenizer | None = None,
    *,
    kind: Kind = Kind.F32,
    change: Callable[[gguf.GGUFWriter], object] = lambda writer: None,
) -> Path:
    """A model as a GGUF file. kind: type of the matrices; change: adds more to the file."""
    config = model.config
    name = ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(str(path), name)
    _add_sizes(writer, config)
    (set_tokenizer or byte_level(n_tokens=config.vocab_size))(writer)
    change(writer)
    architecture = next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == name)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for source, tensor in model.state_dict().items():
        if config.tie_word_embeddings and source == "lm_head.weight":
            continue
        target = names.get_name(source, try_suffixes=(".weight", ".bias"))
        assert target, source
        data = _as_llama_cpp(config, source, tensor.float().numpy())
        stored = kind if data.ndim > 1 else Kind.F32
        writer.add_tensor(target, gguf.quants.quantize(data, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_sizes(writer: gguf.GGUFWriter, config: Any) -> None:
    n_head, n_embd = config.num_attention_heads, config.hidden_size
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(n_embd)
    writer.add_head_count(n_head)
    if config.model_type == "gpt2":
        writer.add_feed_forward_length(config.n_inner or 4 * n_embd)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    writer.add_feed_forward_length(config.intermediate_size)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if config.model_type == "gpt_neox":
        writer.add_rope_dimension_count(int(rope["partial_rotary_factor"] * (n_embd // n_head)))
        writer.add_parallel_residual(config.use_parallel_residual)
        writer.add_layer_norm_eps(config.layer_norm_eps)
        return
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    if head_dim := getattr(config, "head_dim", None):
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
        writer.add_rope_dimension_count(head_dim)


def _as_llama_cpp(config: Any, name: str, data: Array) -> Array:
    """A tensor of transformers in the layout of llama.cpp."""
    n_head = config.num_attention_heads
    if config.model_type == "gpt2" and data.ndim == 2 and ".h." in name:
        return np.ascontiguousarray(data.T)
    if config.model_type in ("llama", "mistral") and (".q_proj." in name or ".k_proj." in name):
        heads = n_head if ".q_proj." in name else config.num_key_value_heads
        shape = (heads, 2, len(data) // heads // 2, *data.shape[1:])
        return np.ascontiguousarray(data.reshape(shape).swapaxes(1, 2)).reshape(data.shape)
    if "query_key_value" in name:
        parts = data.reshape(n_head, 3, -1, *data.shape[1:])
        return np.concatenate([parts[:, i].reshape(-1, *data.shape[1:]) for i in range(3)])
    return data
