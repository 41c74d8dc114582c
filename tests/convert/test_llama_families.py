"""Llama, Mistral, Qwen and GPT-NeoX: every variant computes what transformers computes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.families import FAMILIES
from convert.family import ConfigReader
from convert.gpt_neox import parts_together
from convert.write import ConversionOptions, convert
from gpt.checkpoint import load
from gpt.errors import UserError
from gpt.models import read_config, read_manifest
from tests.convert.conftest import LLAMA, config_of, llama_like, ours, saved, theirs, written

Converted = Callable[..., tuple[Path, list[str]]]

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
NEOX = {"num_key_value_heads": None, "head_dim": None, "hidden_size": 32}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "llama with all heads": ("llama", {"num_key_value_heads": None}),
    "llama with one key": ("llama", {"num_key_value_heads": 1}),
    "llama head size": ("llama", {"head_dim": 6}),
    "llama attention bias": ("llama", {"attention_bias": True}),
    "llama mlp bias": ("llama", {"mlp_bias": True}),
    "llama biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama eps and gelu": ("llama", {"rms_norm_eps": 1e-3, "hidden_act": "gelu"}),
    "llama3": ("llama", {"rope_parameters": {**LLAMA3, "rope_theta": 500000.0}, "head_dim": 8}),
    "llama linear": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0}}),
    "llama one layer": ("llama", {"num_hidden_layers": 1, "pretraining_tp": 2}),
    "mistral": ("mistral", {"sliding_window": 64}),
    "mistral without window": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {"head_dim": None}),
    "qwen2 tied": ("qwen2", {"head_dim": None, "tie_word_embeddings": True}),
    "qwen2 linear": ("qwen2", {"head_dim": None, "rope_scaling": {"type": "linear", "factor": 2}}),
    "qwen3": ("qwen3", {}),
    "qwen3 head size": ("qwen3", {"head_dim": 10, "tie_word_embeddings": True}),
    "qwen3 bias": ("qwen3", {"attention_bias": True, "head_dim": 8}),
    "neox": ("gpt_neox", NEOX),
    "neox sequential": ("gpt_neox", {**NEOX, "use_parallel_residual": False}),
    "neox half": ("gpt_neox", {**NEOX, "rotary_pct": 0.5, "rotary_emb_base": 500}),
    "neox whole": ("gpt_neox", {**NEOX, "rotary_pct": 1.0, "tie_word_embeddings": True}),
    "neox without attention bias": ("gpt_neox", {**NEOX, "attention_bias": False}),
    "neox linear": ("gpt_neox", {**NEOX, "rope_scaling": {"type": "linear", "factor": 3.0}}),
}
KINDS = ["llama", "mistral", "qwen2", "qwen3", "gpt_neox"]
_NAMES = st.sampled_from(
    [
        *LLAMA,
        *LLAMA3,
        "attention_bias",
        "hidden_act",
        "layer_types",
        "max_window_layers",
        "original_max_position_embeddings",
        "rope_parameters",
        "rope_scaling",
        "rope_theta",
        "rotary_pct",
        "sliding_window",
        "tie_word_embeddings",
        "type",
        "use_sliding_window",
    ]
)
IDS = torch.randint(300, (1, 64), generator=torch.Generator().manual_seed(3))
"""As long as the context: four times what Llama 3's scaling calls the original."""


@pytest.mark.parametrize(("kind", "changes"), VARIANTS.values(), ids=VARIANTS)
def test_variants(kind: str, changes: dict[str, Any], tmp_path: Path, converted: Converted) -> None:
    model = llama_like(kind, **changes)
    directory, notices = converted(saved(model, tmp_path / "theirs"))
    assert notices == []
    torch.testing.assert_close(ours(directory, IDS), theirs(model, IDS), atol=1e-4, rtol=0)

    network = load(directory).model
    with torch.inference_mode():
        whole, cache = network(IDS), network.new_cache()
        parts = [network(part, cache) for part in (IDS[:, :20], *IDS[:, 20:].split(1, dim=1))]
        torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-4, rtol=0)

        mine, yours, cache = IDS[:, :5], IDS[:, :5], network.new_cache()
        logits = network(mine, cache)
        for _ in range(30):
            mine = torch.cat((mine, logits[:, -1:].argmax(-1)), 1)
            logits = network(mine[:, -1:], cache)
            yours = torch.cat((yours, theirs(model, yours)[:, -1:].argmax(-1)), 1)
    assert mine.tolist() == yours.tolist()


@pytest.mark.parametrize("name", ["llama3", "llama linear", "neox half"])
def test_configurations_of_older_versions(name: str, tmp_path: Path, converted: Converted) -> None:
    """Before transformers 5 the base was not in `rope_scaling`, which said `type`."""
    kind, changes = VARIANTS[name]
    model = llama_like(kind, **changes)
    config = config_of(model, torch_dtype="float32")
    table = config.pop("rope_parameters")
    config["rotary_emb_base" if kind == "gpt_neox" else "rope_theta"] = table.pop("rope_theta")
    if kind == "gpt_neox":
        config["rotary_pct"] = table.pop("partial_rotary_factor")
    scaling = table.pop("rope_type")
    config["rope_scaling"] = None if scaling == "default" else {"type": scaling, **table}
    state = dict(model.state_dict())
    layer = "gpt_neox.layers.1.attention" if kind == "gpt_neox" else "model.layers.1.self_attn"
    state[f"{layer}.rotary_emb.inv_freq"] = torch.ones(2)
    if kind == "gpt_neox":
        state[f"{layer}.bias"] = torch.ones(1, 1, 64, 64, dtype=torch.bool)
        state[f"{layer}.masked_bias"] = torch.tensor(-1e9)
    directory, _ = converted(written(tmp_path / "theirs", config, state))
    torch.testing.assert_close(ours(directory, IDS), theirs(model, IDS), atol=1e-4, rtol=0)


def test_defaults_are_those_of_transformers() -> None:
    """Every value that a configuration may leave out is what its class says."""
    import transformers

    for kind in KINDS:
        reader = ConfigReader(transformers.AutoConfig.for_model(kind).to_dict())
        assert FAMILIES[kind].read_config(ConfigReader({})) == FAMILIES[kind].read_config(reader)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("mistral", {"sliding_window": 20}),
        (
            "qwen2",
            {
                "head_dim": None,
                "use_sliding_window": True,
                "sliding_window": 20,
                "max_window_layers": 1,
            },
        ),
        ("qwen3", {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 0}),
    ],
)
def test_a_context_longer_than_the_window_is_cut(
    kind: str, changes: dict[str, Any], tmp_path: Path, converted: Converted
) -> None:
    model = llama_like(kind, **changes)
    directory, notices = converted(saved(model, tmp_path / "theirs"))
    assert read_config(directory).block_size == 20
    assert any("cut from 64 to 20 tokens" in notice for notice in notices)
    assert read_manifest(directory).origin["notices"] == notices
    ids = IDS[:, :20]
    torch.testing.assert_close(ours(directory, ids), theirs(model, ids), atol=1e-4, rtol=0)
    one_more = theirs(model, IDS[:, :21])[:, -1]
    wide = load(directory, dtype="float32").model
    assert not torch.allclose(wide(IDS[:, :21])[:, -1], one_more, atol=1e-3)


@pytest.mark.parametrize("beyond", [{"max_window_layers": 2}, {"use_sliding_window": False}])
def test_a_window_that_no_layer_has_cuts_nothing(
    beyond: dict[str, Any], tmp_path: Path, converted: Converted
) -> None:
    settings = {"use_sliding_window": True, "sliding_window": 20, "max_window_layers": 1}
    model = llama_like("qwen2", **{**settings, **beyond, "head_dim": None})
    directory, notices = converted(saved(model, tmp_path / "theirs"))
    assert (read_config(directory).block_size, notices) == (64, [])
    torch.testing.assert_close(ours(directory, IDS), theirs(model, IDS), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("kind", "changes", "match"),
    [
        ("mixtral", {}, "'mixtral' model, a mixture of experts"),
        ("qwen2_moe", {}, "'qwen2_moe' model, a mixture of experts"),
        ("qwen3_moe", {}, "'qwen3_moe' model, a mixture of experts"),
        ("gemma2", {}, "'gemma2' model, a network with soft caps"),
        ("mamba", {}, "'mamba' model; convert supports gpt2, opt, llama"),
        ("llama", {"num_experts": 8}, "num_experts asks for a mixture of experts"),
        ("llama", {"num_local_experts": 8}, "num_local_experts asks for a mixture of experts"),
        ("gpt_neox", {"num_experts": 8}, "num_experts asks for a mixture of experts"),
        ("qwen3", {"attn_logit_softcapping": 50.0}, "soft cap of attention scores"),
        ("llama", {"final_logit_softcapping": 30.0}, "soft cap of logits"),
        ("llama", {"quantization_config": {"bits": 4}}, "quantised"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4}}, "scaled by 'yarn'"),
        ("qwen2", {"rope_scaling": {"type": "yarn", "factor": 4}}, "scaled by 'yarn'"),
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 4}}, "scaled by 'dynamic'"),
        ("llama", {"rope_scaling": {"type": "longrope"}}, "scaled by 'longrope'"),
        ("qwen2", {"rope_scaling": {"mrope_section": [1, 1]}}, "positions of images"),
        ("llama", {"rope_scaling": {"type": "linear"}}, "lacks factor, a number above 0"),
        ("llama", {"rope_scaling": {**LLAMA3, "low_freq_factor": 0}}, "lacks low_freq_factor"),
        ("llama", {"rope_scaling": {**LLAMA3, "high_freq_factor": 1}}, "rope_low 1.0 must be"),
        ("llama", {"rope_scaling": {"type": 3}}, "type is 3; it must be a text"),
        ("llama", {"rope_scaling": "linear"}, "rope_scaling is 'linear'; it must be a table"),
        ("llama", {"rope_theta": -1}, "rope_theta"),
        ("llama", {"partial_rotary_factor": 0.5}, "a part of each head"),
        ("gpt_neox", {"rotary_pct": 0}, "rotates 0 of each head"),
        ("gpt_neox", {"rotary_pct": 0.3}, "rotary_dim is 1"),
        ("gpt_neox", {"num_attention_heads": 0}, "n_head is 0"),
        ("gpt_neox", {"num_attention_heads": 3}, "not divisible"),
        ("llama", {"num_key_value_heads": 3}, "not divisible by its n_kv_head 3"),
        ("llama", {"num_key_value_heads": -1}, "n_kv_head is -1"),
        ("llama", {"head_dim": 3}, "even head size, not 3"),
        ("llama", {"head_dim": "4"}, "head_dim is '4'; it must be a whole number"),
        ("mistral", {"sliding_window": 0}, "sliding_window is 0"),
        ("mistral", {"sliding_window": True}, "sliding_window is True"),
        ("qwen3", {"layer_types": ["linear_attention"]}, "layer_types asks for 'linear_attention'"),
        ("qwen3", {"layer_types": [3]}, "layer_types is a list; it must be a list of texts"),
        ("qwen2", {"hidden_act": "xielu"}, "activation 'xielu'"),
    ],
)
def test_what_is_refused_by_name(
    kind: str, changes: dict[str, Any], match: str, tmp_path: Path, converted: Converted
) -> None:
    config = {**LLAMA, "model_type": kind, **changes}
    with pytest.raises(UserError, match=match):
        converted(written(tmp_path / "theirs", config, {"x": torch.zeros(1)}))


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"num_key_value_heads": 4}, "k_proj.*config.json asks for 16 by 16"),
        ({"attention_bias": True}, r"lacks 'layers.0.self_attn.[qo]_proj.bias'"),
        ({"head_dim": 8}, "q_proj.*config.json asks for 32 by 16"),
        ({"intermediate_size": 20}, "up_proj.*config.json asks for 20 by 16"),
        ({"num_hidden_layers": 1}, "config.json says 1 layers"),
        ({"num_hidden_layers": 3}, r"lacks 'layers.2.input_layernorm.weight'"),
    ],
)
def test_a_configuration_that_contradicts_the_weights(
    config: dict[str, Any], match: str, tmp_path: Path, converted: Converted
) -> None:
    model = llama_like("llama")
    source = written(tmp_path / "theirs", config_of(model, **config), model.state_dict())
    with pytest.raises(UserError, match=match):
        converted(source)


def test_tensors_of_qwen3_in_a_llama_are_refused(tmp_path: Path, converted: Converted) -> None:
    model = llama_like("qwen3")
    source = written(tmp_path / "theirs", config_of(model, model_type="llama"), model.state_dict())
    with pytest.raises(UserError, match="not a tensor of a llama model"):
        converted(source)


def test_parts_of_neox() -> None:
    """Head by head is part by part; a shape that does not fit stays and is refused later."""
    names = torch.tensor([[10 * part + head for part in range(3)] for head in range(4)])
    rows = names[..., None].expand(-1, -1, 2).reshape(-1)  # (nh, 3, hs)
    found = parts_together(rows, n_head=4).view(3, 4, 2)
    assert torch.equal(found, names.T[..., None].expand(-1, -1, 2))
    assert parts_together(torch.zeros(25, 2), n_head=4).shape == (25, 2)
    assert parts_together(torch.zeros(()), n_head=4).shape == ()


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {"attention_bias": True}),
        ("mistral", {"sliding_window": 20}),
        ("qwen3", {"head_dim": 6}),
        ("gpt_neox", NEOX),
    ],
)
def test_verification_agrees(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    model = llama_like(kind, **changes)
    source = saved(model, tmp_path / kind, max_shard_size="10KB")
    for dtype in ("keep", "bfloat16", "int8"):
        options = ConversionOptions(dtype=dtype, force=True)
        found = convert(str(source), options=options).verification
        assert found["status"] == "passed"
        assert found["logits"] < 1e-4


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 70) | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(KINDS), changes=st.dictionaries(_NAMES, _JSON, max_size=5))
def test_any_configuration_is_read_or_refused_in_a_sentence(
    kind: str, changes: dict[str, Any]
) -> None:
    family, reader = FAMILIES[kind], ConfigReader({**LLAMA, **changes})
    try:
        config = family.read_config(reader)
        family.constants(reader)
    except UserError as error:
        assert len(str(error)) < 300
    else:
        assert config.block_size > 0
        assert family.sized(config).places.keys() >= family.places.keys()


def test_ids_of_special_tokens(tmp_path: Path, converted: Converted) -> None:
    """generation_config.json comes first, as with `generate`."""
    source = saved(llama_like("llama", eos_token_id=[2, 7]), tmp_path / "theirs")
    assert load(converted(source)[0]).ends == {2, 7}
    (source / "generation_config.json").write_text(json.dumps({"eos_token_id": [9, 2, 5]}))
    directory, _ = converted(source)
    assert load(directory).ends == {2, 5, 9}
    assert read_config(directory).eos_id == 9
