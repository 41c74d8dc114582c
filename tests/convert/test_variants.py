"""Every kind of checkpoint that is out there computes what transformers computes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from convert.write import ConversionOptions, convert
from gpt.checkpoint import load
from gpt.errors import UserError
from gpt.models import read_config, read_manifest
from gpt.weights.quantize import dequantize, quantize
from tests.convert.conftest import (
    GPT2,
    assert_same,
    config_of,
    gpt2,
    opt,
    saved,
    theirs,
    untied_state,
    write_vocab,
    written,
)

Converted = Callable[..., tuple[Path, list[str]]]

GPT2_CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "activation gelu": {"activation_function": "gelu"},
    "activation gelu_new": {"activation_function": "gelu_new"},
    "activation gelu_pytorch_tanh": {"activation_function": "gelu_pytorch_tanh"},
    "activation gelu_fast": {"activation_function": "gelu_fast"},
    "activation relu": {"activation_function": "relu"},
    "activation silu": {"activation_function": "silu"},
    "activation swish": {"activation_function": "swish"},
    "activation quick_gelu": {"activation_function": "quick_gelu"},
    "no scale": {"scale_attn_weights": False},
    "scale by layer": {"scale_attn_by_inverse_layer_idx": True, "n_layer": 3},
    "both scale flags": {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
    "reorder and upcast": {"reorder_and_upcast_attn": True},
    "n_inner": {"n_inner": 24},
    "eps": {"layer_norm_epsilon": 1e-3},
    "untied": {"tie_word_embeddings": False},
    "head size 1": {"n_embd": 2, "n_head": 2},
    "one layer": {"n_layer": 1},
    "Cerebras-GPT": {"activation_function": "gelu", "n_inner": 64, "n_positions": 64},
    "CodeParrot": {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
}
OPT_CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "opt-350m": {"do_layer_norm_before": False, "word_embed_proj_dim": 8},
    "projections before norms": {"word_embed_proj_dim": 8},
    "post-norm without projections": {"do_layer_norm_before": False},
    "no final norm": {"_remove_final_layer_norm": True},
    "no biases": {"enable_bias": False},
    "no norm parameters": {"layer_norm_elementwise_affine": False},
    "large Galactica": {
        "enable_bias": False,
        "layer_norm_elementwise_affine": False,
        "activation_function": "gelu",
        "bos_token_id": 0,
    },
    "no parameters in post-norms": {
        "do_layer_norm_before": False,
        "layer_norm_elementwise_affine": False,
    },
    "untied": {"tie_word_embeddings": False},
    "untied opt-350m": {"tie_word_embeddings": False, "word_embed_proj_dim": 8},
    "gelu": {"activation_function": "gelu"},
}


@pytest.mark.parametrize("changes", GPT2_CONFIGS.values(), ids=GPT2_CONFIGS)
def test_gpt2_configurations(changes: dict[str, Any], tmp_path: Path, converted: Converted) -> None:
    model = gpt2(**changes)
    directory, notices = converted(saved(model, tmp_path / "theirs"))
    assert_same(model, directory)
    assert notices == ["eos_token_id 50256 is outside the vocabulary of 300; ignored"]


@pytest.mark.parametrize("changes", OPT_CONFIGS.values(), ids=OPT_CONFIGS)
def test_opt_configurations(changes: dict[str, Any], tmp_path: Path, converted: Converted) -> None:
    model = opt(**changes)
    directory, _ = converted(saved(model, tmp_path / "theirs"))
    assert_same(model, directory)


@pytest.mark.parametrize("make", [gpt2, opt])
@pytest.mark.parametrize("kind", ["sharded", "bin", "sharded bin", "legacy bin"])
def test_kinds_of_files(
    make: Callable[[], Any], kind: str, tmp_path: Path, converted: Converted
) -> None:
    model = make()
    source = saved(
        model, tmp_path / "theirs", max_shard_size="10KB" if kind == "sharded" else "1GB"
    )
    if kind != "sharded":
        (source / "model.safetensors").unlink()
        state = model.state_dict()
        if kind == "sharded bin":
            names = sorted(state)
            table: dict[str, str] = {}
            for i, part in enumerate((names[::2], names[1::2])):
                file = f"pytorch_model-{i + 1:05}-of-00002.bin"
                torch.save({n: state[n].clone() for n in part}, source / file)
                table |= dict.fromkeys(part, file)
            text = json.dumps({"weight_map": table})  # without metadata
            (source / "pytorch_model.bin.index.json").write_text(text)
        else:
            torch.save(
                state,
                source / "pytorch_model.bin",
                _use_new_zipfile_serialization=kind == "bin",
            )
    assert_same(model, converted(source)[0])


@pytest.mark.parametrize("kind", ["bin", "safetensors"])
@pytest.mark.parametrize("prefix", ["", "transformer.", "module.transformer.", "_orig_mod.module."])
def test_prefixes_of_gpt2(prefix: str, kind: str, tmp_path: Path, converted: Converted) -> None:
    model = gpt2()
    state = {
        prefix + name.removeprefix("transformer."): tensor
        for name, tensor in untied_state(model).items()
    }
    assert_same(model, converted(written(tmp_path / "theirs", config_of(model), state, kind))[0])


@pytest.mark.parametrize("prefix", ["", "decoder.", "model.decoder.", "_orig_mod.model.decoder."])
def test_prefixes_of_opt(prefix: str, tmp_path: Path, converted: Converted) -> None:
    model = opt()
    state = {
        prefix + name.removeprefix("model.decoder."): tensor
        for name, tensor in untied_state(model).items()
    }
    assert_same(model, converted(written(tmp_path / "theirs", config_of(model), state))[0])


def test_buffers_are_dropped(tmp_path: Path, converted: Converted) -> None:
    model = gpt2()
    state = untied_state(model)
    for i, dtype in enumerate((torch.uint8, torch.bool)):
        state[f"transformer.h.{i}.attn.bias"] = torch.ones(1, 1, 48, 48).tril().to(dtype)
        state[f"transformer.h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
        state[f"transformer.h.{i}.crossattention.bias"] = torch.ones(1, 1, 48, 48)
    directory, notices = converted(written(tmp_path / "theirs", config_of(model), state))
    assert_same(model, directory)
    assert len(notices) == 1  # only the bos that is always out of range here


def test_cross_attention_is_dropped_with_a_notice(tmp_path: Path, converted: Converted) -> None:
    model = gpt2(add_cross_attention=True)
    directory, notices = converted(saved(model, tmp_path / "theirs"))
    assert_same(model, directory)
    assert any("cross-attention is dropped" in notice for notice in notices)


@pytest.mark.parametrize("suffixes", [("g", "b", "w"), ("gamma", "beta", "weight")])
def test_names_of_2019(
    suffixes: tuple[str, str, str], tmp_path: Path, converted: Converted
) -> None:
    model = gpt2()
    gain, bias, weight = suffixes
    state = {}
    for name, tensor in untied_state(model).items():
        stem, _, kind = name.removeprefix("transformer.").rpartition(".")
        if "ln_" in stem:
            kind = {"weight": gain, "bias": bias}[kind]
        elif not stem.startswith("w"):
            kind = {"weight": weight, "bias": "b" if bias == "b" else "bias"}[kind]
        state[f"{stem}.{kind}"] = tensor
    assert "h.0.ln_1." + gain in state
    assert_same(model, converted(written(tmp_path / "theirs", config_of(model), state))[0])


def test_names_of_openai(tmp_path: Path, converted: Converted) -> None:
    model = gpt2()
    state = {}
    for name, tensor in untied_state(model).items():
        stem, _, kind = name.removeprefix("transformer.").rpartition(".")
        stem = stem.replace("h.", "h", 1) if stem.startswith("h.") else stem
        path = "model/" + stem.replace(".", "/")
        is_matrix = kind == "weight" and tensor.ndim == 2 and not stem.startswith("w")
        if not stem.startswith("w"):
            path += "/" + ("g" if "ln_" in stem and kind == "weight" else kind[0])
        state[path] = tensor[None] if is_matrix else tensor
    assert {"model/wte", "model/h0/attn/c_attn/w", "model/ln_f/g"} <= state.keys()
    assert_same(model, converted(written(tmp_path / "theirs", config_of(model), state))[0])


def test_only_a_head_that_is_tied_is_the_embedding(tmp_path: Path, converted: Converted) -> None:
    model = gpt2()
    state = untied_state(model)
    state["lm_head.weight"] = state.pop("transformer.wte.weight")
    directory, _ = converted(written(tmp_path / "theirs", config_of(model), state))
    assert_same(model, directory)
    assert read_config(directory).tied


@pytest.mark.parametrize("name", ["lm_head.weight", "lm_head.decoder.weight"])
def test_a_head_that_differs_though_tied_is_kept(
    name: str, tmp_path: Path, converted: Converted
) -> None:
    model = gpt2(tie_word_embeddings=False)
    state = untied_state(model) | {name: model.lm_head.weight.detach()}
    config = config_of(model, tie_word_embeddings=True)
    directory, notices = converted(written(tmp_path / "theirs", config, state))
    assert_same(model, directory)
    assert not read_config(directory).tied
    assert any("both are kept" in notice for notice in notices)


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_that_is_the_embedding_is_stored_once(
    tied: bool, tmp_path: Path, converted: Converted
) -> None:
    model = gpt2()
    config = config_of(model, tie_word_embeddings=tied)
    directory, notices = converted(written(tmp_path / "theirs", config, model.state_dict()))
    assert_same(model, directory)
    assert read_config(directory).tied
    assert len(notices) == 1
    names = load(directory).model.state_dict()
    assert "lm_head.weight" not in names


def test_an_untied_head_that_is_missing_is_an_error(tmp_path: Path, converted: Converted) -> None:
    model = gpt2()
    config = config_of(model, tie_word_embeddings=False)
    source = written(tmp_path / "theirs", config, untied_state(model))
    with pytest.raises(UserError, match=r"lacks 'lm_head\.weight'"):
        converted(source)


@pytest.mark.parametrize("wanted", ["keep", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["bin", "safetensors"])
def test_dtypes(
    wanted: str, stored: torch.dtype, kind: str, tmp_path: Path, converted: Converted
) -> None:
    model = gpt2().to(stored)  # type: ignore[arg-type]
    source = written(tmp_path / "theirs", config_of(model), untied_state(model), kind)
    directory, _ = converted(source, dtype=wanted)
    expected = str(stored).removeprefix("torch.") if wanted == "keep" else wanted
    assert read_manifest(directory).dtype == expected
    assert_same(model.to(getattr(torch, expected)), directory)
    weights = load_file(directory / "model.safetensors")
    assert {str(w.dtype) for w in weights.values()} == {f"torch.{expected}"}


@pytest.mark.parametrize("model", [gpt2(), opt(word_embed_proj_dim=8)], ids=["gpt2", "opt"])
def test_int8_has_the_nearest_numbers_of_each_row(
    model: Any, tmp_path: Path, converted: Converted
) -> None:
    source = saved(model, tmp_path / "theirs")
    exact, _ = converted(source)
    ids = torch.randint(20, (1, 8))
    directory, _ = converted(source, dtype="int8")
    assert read_manifest(directory).dtype == "int8"
    assert read_manifest(directory).n_params == read_manifest(exact).n_params
    found = load(directory).model
    for name, weight in load(exact).model.state_dict().items():
        if weight.dim() == 2 and name != "wpe.weight":
            weight = dequantize(*quantize(weight))
        assert torch.equal(found.state_dict()[name], weight)
    # The same numbers, not rounded again; only activations have 16 bits.
    for dtype in ("int8", "stored"):
        again = load(directory, dtype=dtype).model(ids)
        torch.testing.assert_close(again, found(ids), atol=2e-2, rtol=1e-2)


@pytest.mark.parametrize("odd", [torch.float32, torch.float64])
def test_mixed_dtypes_are_stored_as_float32(
    odd: torch.dtype, tmp_path: Path, converted: Converted
) -> None:
    model = gpt2().to(torch.float16)  # type: ignore[arg-type]
    state = untied_state(model)
    state["transformer.ln_f.weight"] = state["transformer.ln_f.weight"].to(odd)
    directory, notices = converted(written(tmp_path / "theirs", config_of(model), state))
    assert read_manifest(directory).dtype == "float32"
    assert any("stored as float32" in notice for notice in notices)
    assert_same(model, directory)


def test_aliases_in_the_configuration(tmp_path: Path, converted: Converted) -> None:
    model = gpt2()
    config = config_of(model, n_ctx=7)
    for old, new in {
        "n_embd": "hidden_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "n_positions": "max_position_embeddings",
    }.items():
        config[new] = config.pop(old)
    directory, _ = converted(written(tmp_path / "theirs", config, untied_state(model)))
    assert_same(model, directory)


def test_a_configuration_of_2019_names_no_type(tmp_path: Path, converted: Converted) -> None:
    model = gpt2()
    config = {**GPT2, "n_ctx": 48, "layer_norm_epsilon": 1e-5, "initializer_range": 0.02}
    assert_same(model, converted(written(tmp_path / "theirs", config, untied_state(model)))[0])


def test_a_padded_vocabulary_keeps_its_logits(tmp_path: Path, converted: Converted) -> None:
    model = gpt2(vocab_size=320)
    checkpoint = load(converted(saved(model, tmp_path / "theirs"))[0])
    assert checkpoint.model.config.vocab_size == 320
    assert checkpoint.tokenizer.token_bytes(319) == b""
    assert checkpoint.tokenizer.token_bytes(263) == b""  # <|endoftext|>


def test_ids_of_special_tokens(tmp_path: Path, converted: Converted) -> None:
    model = opt(bos_token_id=2, eos_token_id=[2, 5], pad_token_id=1)
    directory, notices = converted(saved(model, tmp_path / "opt"))
    config = read_config(directory)
    assert (config.bos_id, config.eos_id, config.pad_id) == (None, 2, 1)
    assert load(directory).ends == {2, 5}
    assert notices == []
    model = gpt2(bos_token_id=263, eos_token_id=263)
    directory, _ = converted(saved(model, tmp_path / "gpt2"))
    config = read_config(directory)
    assert (config.bos_id, config.eos_id, config.pad_id) == (None, 263, None)
    assert load(directory).ends == {263}


def test_ids_outside_the_vocabulary_are_ignored(tmp_path: Path, converted: Converted) -> None:
    model = opt(bos_token_id=2)
    config = config_of(model, eos_token_id=-1, pad_token_id=300)
    directory, notices = converted(written(tmp_path / "theirs", config, untied_state(model)))
    found = read_config(directory)
    assert (found.bos_id, found.eos_id, found.pad_id) == (None, None, None)
    assert sum("outside the vocabulary" in notice for notice in notices) == 2
    assert read_manifest(directory).origin["notices"] == notices


@pytest.mark.parametrize(
    "kind",
    [
        transformers.GPT2ForSequenceClassification,
        transformers.GPT2ForTokenClassification,
        transformers.GPT2ForQuestionAnswering,
        transformers.OPTForSequenceClassification,
        transformers.OPTForQuestionAnswering,
    ],
)
def test_other_heads_are_dropped_with_a_notice(
    kind: Any, tmp_path: Path, converted: Converted
) -> None:
    make = gpt2 if kind.__name__.startswith("GPT2") else opt
    model = make(pad_token_id=1, eos_token_id=2)
    other = kind(model.config)
    names = dict(other.named_parameters()).keys() - dict(model.named_parameters()).keys()
    heads = {name: other.state_dict()[name] for name in names}
    assert heads
    source = written(tmp_path / "theirs", config_of(model), untied_state(model) | heads)
    directory, notices = converted(source)
    assert_same(model, directory)
    assert len(notices) == 1
    assert "head is dropped" in notices[0]


def test_verification_agrees(tmp_path: Path) -> None:
    for name, model in {"gpt2": gpt2(scale_attn_weights=False), "opt": opt()}.items():
        source = saved(model, tmp_path / name)
        for dtype in ("keep", "float16", "bfloat16"):
            options = ConversionOptions(dtype=dtype, force=True)
            found = convert(str(source), options=options).verification
            assert found["status"] == "passed"
            assert max(found["logits"], found["logprobs"]) < 1e-4
            assert read_manifest(tmp_path / "models" / name).origin["verification"] == found


def test_two_shards_of_a_hub_cache(tmp_path: Path, converted: Converted) -> None:
    """The hub's cache links from snapshots to blobs."""
    model = gpt2()
    flat = saved(model, tmp_path / "flat", max_shard_size="10KB")
    root = tmp_path / "models--x--y"
    snapshot = root / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (root / "blobs").mkdir()
    for i, path in enumerate(sorted(flat.iterdir())):
        shutil.copy(path, root / "blobs" / f"{i}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"{i}")
    assert_same(model, converted(snapshot)[0])


def test_an_unused_file_does_not_matter(tmp_path: Path, converted: Converted) -> None:
    model = gpt2()
    source = saved(model, tmp_path / "theirs")
    for name in ("optimizer.pt", "training_args.bin", "tf_model.h5", "pytorch_model.bin"):
        (source / name).write_bytes(b"not read")
    assert_same(model, converted(source)[0])
    write_vocab(source)
    assert theirs(model).isfinite().all()
