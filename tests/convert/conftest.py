"""Tiny random models that transformers makes, and what it computes with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from convert.events import Notice
from convert.write import ConversionOptions, convert
from gpt.checkpoint import load
from gpt.tokenizer import byte_alphabet

if TYPE_CHECKING:  # transformers takes seconds to import
    from transformers import PreTrainedModel as Model

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("Ġ", "w"), ("o", "r"), ("Ġw", "or"), ("a", "a")]
N_ORDINARY = 256 + len(MERGES)
GPT2 = {"vocab_size": 300, "n_positions": 48, "n_embd": 16, "n_layer": 2, "n_head": 4}
OPT = {
    "vocab_size": 300,
    "max_position_embeddings": 48,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "ffn_dim": 40,
    "word_embed_proj_dim": 16,
    "dropout": 0.0,
}
IDS = torch.tensor([[5, 299, 0, 17, 17, 250, 1, 2, 131, 64, 9, 200]])


def tiny_vocab(special: tuple[str, ...] = ("<|endoftext|>",)) -> dict[str, int]:
    """A byte-level vocabulary with a few merges; the special tokens come last."""
    tokens = [*byte_alphabet(), *(a + b for a, b in MERGES), *special]
    return {token: i for i, token in enumerate(tokens)}


def write_vocab(directory: Path, vocab: Mapping[str, int] | None = None) -> None:
    """vocab.json and merges.txt for a model."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(tiny_vocab() if vocab is None else vocab)
    (directory / "vocab.json").write_text(text, encoding="utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in MERGES)]
    (directory / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def randomised(model: Model) -> Model:
    """Weights far from those of a fresh model, so that a wrong place or a lost bias shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            is_gain = weight.ndim == 1 and name.endswith("weight")
            weight.copy_(noise * 0.3 + (1.0 if is_gain else 0.0))
    return model.eval()


def gpt2(**changes: Any) -> Model:
    """A tiny GPT-2 of transformers."""
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(**{**GPT2, **changes})
    config._attn_implementation = "eager"
    return randomised(transformers.GPT2LMHeadModel(config))


def opt(**changes: Any) -> Model:
    """A tiny OPT of transformers."""
    import transformers

    torch.manual_seed(0)
    config = transformers.OPTConfig(**{**OPT, **changes})
    config._attn_implementation = "eager"
    return randomised(transformers.OPTForCausalLM(config))


LLAMA = {
    "vocab_size": 300,
    "max_position_embeddings": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "intermediate_size": 24,
}
"""Sizes of a tiny model of Llama's relatives."""


def llama_like(kind: str, **changes: Any) -> Model:
    """A tiny model of transformers of the type `kind`; a change to None leaves a setting out."""
    import transformers

    torch.manual_seed(0)
    settings = {k: v for k, v in {**LLAMA, **changes}.items() if v is not None}
    config = transformers.AutoConfig.for_model(kind, **settings)
    config._attn_implementation = "eager"
    return randomised(transformers.AutoModelForCausalLM.from_config(config))


def saved(model: Model, directory: Path, **options: Any) -> Path:
    """A model as save_pretrained writes it, with a tokenizer."""
    model.save_pretrained(directory, **options)
    write_vocab(directory)
    return directory


def written(
    directory: Path, config: Mapping[str, Any], state: Mapping[str, Tensor], kind: str = "bin"
) -> Path:
    """A checkpoint with names of the test's own."""
    write_vocab(directory)
    (directory / "config.json").write_text(json.dumps(dict(config)), encoding="utf-8")
    if kind == "bin":
        torch.save(dict(state), directory / "pytorch_model.bin")
    else:
        copies = {name: tensor.clone().contiguous() for name, tensor in state.items()}
        save_file(copies, directory / "model.safetensors")
    return directory


def config_of(model: Model, **changes: Any) -> dict[str, Any]:
    """What config.json says of a model, changed."""
    return {**json.loads(model.config.to_json_string(use_diff=False)), **changes}


def untied_state(model: Model) -> dict[str, Tensor]:
    """The tensors of a model without the output matrix that is its embedding."""
    return {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}


def theirs(model: Model, ids: Tensor = IDS) -> Tensor:
    """Their logits (B, T, V) in float32."""
    with torch.inference_mode():
        return model.float()(input_ids=ids, use_cache=False).logits


def ours(directory: Path, ids: Tensor = IDS) -> Tensor:
    """Our logits (B, T, V) in float32."""
    with torch.inference_mode():
        return load(directory).model(ids)


def assert_same(model: Model, directory: Path) -> None:
    """Both compute the same to rounding."""
    torch.testing.assert_close(ours(directory), theirs(model), atol=5e-5, rtol=1e-5)


@pytest.fixture
def converted(tmp_path: Path) -> Callable[..., tuple[Path, list[str]]]:
    """Convert a directory without verification: the result and the notices."""

    def run(source: Path, **options: Any) -> tuple[Path, list[str]]:
        notices: list[str] = []
        result = convert(
            str(source),
            name="tiny",
            verify=False,
            options=ConversionOptions(force=True, **options),
            on_event=lambda event: (
                notices.append(event.text) if isinstance(event, Notice) else None
            ),
        )
        return result.directory, notices

    return run
