"""A tiny random GPT-2 as GGUF whose texts never end by themselves."""

from __future__ import annotations

from pathlib import Path

from tests.convert.gguf_files import byte_level, write_gguf

BYTES, SIZE = 256, 266
POSITIONS = 1024


def endless_gguf(path: Path) -> Path:
    """Write the file; returns its path."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=SIZE,
        n_positions=POSITIONS,
        n_embd=64,
        n_layer=2,
        n_head=2,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():  # the special tokens are after the bytes
        model.transformer.ln_f.bias[0] = 20
        model.transformer.wte.weight[BYTES:, 0] = -1
    return write_gguf(path, model, byte_level(n_tokens=SIZE))
