"""CTranslate2 and llama.cpp with the weights of one of transformers' GPT-2 models.

`pip install '.[bench]'` installs them; llama-cpp-python compiles llama.cpp, which takes a while.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

Program = Callable[[list[int], int], list[int]]
"""Ids and n → n ids that continue them, drawn greedily. With n = 0, the ids are only read."""

_LLAMA_NAMES = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
"""Name of a layer in a block of GPT-2 → its name in llama.cpp."""


def ctranslate2_program(theirs: Path, work: Path, quantization: str, threads: int) -> Program:
    """GPT-2 in CTranslate2. theirs: directory with the weights. Raises ImportError without it."""
    import ctranslate2

    out = work / f"ctranslate2-{quantization}"
    converter = ctranslate2.converters.TransformersConverter(str(theirs))
    converter.convert(str(out), quantization=quantization)
    generator = ctranslate2.Generator(
        str(out), device="cpu", intra_threads=threads, inter_threads=1, compute_type=quantization
    )
    words = [""] * 50257
    for word, i in json.loads((theirs / "vocab.json").read_text()).items():
        words[i] = word

    def run(ids: list[int], n: int) -> list[int]:
        (result,) = generator.generate_batch(
            [[words[i] for i in ids]],
            max_length=max(n, 1),
            min_length=max(n, 1),
            sampling_topk=1,
            include_prompt_in_result=False,
            end_token=[],
        )
        return list(result.sequences_ids[0])

    return run


def llama_cpp_program(model: Any, work: Path, kind: str, threads: int) -> Program:
    """transformers' GPT-2 in llama.cpp. kind: F32, F16 or Q8_0. Raises ImportError without it."""
    from llama_cpp import Llama

    path = work / f"{kind}.gguf"
    _write_gguf(model, path, kind)
    llama = Llama(
        str(path),
        n_ctx=1024,
        n_batch=512,
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
    )

    def run(ids: list[int], n: int) -> list[int]:
        llama.reset()
        llama.eval(ids)
        drawn: list[int] = []
        while len(drawn) < n:
            drawn.append(int(np.argmax(_logits(llama))))
            if len(drawn) < n:
                llama.eval(drawn[-1:])
        return drawn

    return run


def _logits(llama: Any) -> np.ndarray[Any, Any]:
    """Logits (V) after the last token, without a copy."""
    import llama_cpp

    pointer = llama_cpp.llama_get_logits(llama.ctx)
    return np.ctypeslib.as_array(pointer, shape=(llama.n_vocab(),))


def _write_gguf(model: Any, path: Path, kind: str) -> None:
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(str(path), "gpt2")
    writer.add_context_length(config.n_positions)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(4 * config.n_embd)
    writer.add_head_count(config.n_head)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"t{i}" for i in range(config.vocab_size)])
    writer.add_token_types([gguf.TokenType.NORMAL] * config.vocab_size)
    writer.add_token_merges(["t 0"])
    writer.add_bos_token_id(config.vocab_size - 1)
    writer.add_eos_token_id(config.vocab_size - 1)
    stored = gguf.GGMLQuantizationType[kind]
    for name, tensor in _llama_tensors(model).items():
        data = tensor.detach().float().contiguous().numpy()
        if data.ndim == 2 and name != "position_embd.weight":
            writer.add_tensor(name, gguf.quants.quantize(data, stored), raw_dtype=stored)
        else:
            writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _llama_tensors(model: Any) -> dict[str, torch.Tensor]:
    state = model.transformer.state_dict()
    found = {
        "token_embd.weight": state["wte.weight"],
        "position_embd.weight": state["wpe.weight"],
        "output_norm.weight": state["ln_f.weight"],
        "output_norm.bias": state["ln_f.bias"],
        "output.weight": state["wte.weight"],
    }
    for i in range(model.config.n_layer):
        for name, llama_name in _LLAMA_NAMES.items():
            for part in ("weight", "bias"):
                tensor = state[f"h.{i}.{name}.{part}"]
                # GPT-2's matrices are (in, out).
                found[f"blk.{i}.{llama_name}.{part}"] = tensor.t() if tensor.ndim == 2 else tensor
    return found
