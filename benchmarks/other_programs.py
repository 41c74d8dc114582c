"""CTranslate2 and llama.cpp with the weights of one of transformers' GPT-2 models.

`pip install '.[bench,servers]'` installs them.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    """transformers' GPT-2 in llama.cpp. kind: F32, F16, Q8_0 or Q4_0. Raises ImportError without
    xllamacpp."""
    path = work / f"{kind}.gguf"
    _write_gguf(model, path, kind)
    return server_program(path, threads)


def server_program(path: Path, threads: int) -> Program:
    """A GGUF file in a llama.cpp server on this machine. Raises ImportError without xllamacpp."""
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = str(path)
    options.n_ctx, options.n_parallel, options.ui = 1024, 1, False
    options.hostnames, options.port = ["127.0.0.1"], 0
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(options)

    def run(ids: list[int], n: int) -> list[int]:
        asked = {
            "prompt": ids,
            "n_predict": max(n, 1),
            "temperature": 0,
            "ignore_eos": True,
            "cache_prompt": False,
            "return_tokens": True,
        }
        request = urllib.request.Request(  # noqa: S310
            f"{server.listening_address}/completion",
            json.dumps(asked).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=600) as answer:  # noqa: S310
            tokens: list[int] = json.load(answer)["tokens"]
        return tokens

    return run


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
