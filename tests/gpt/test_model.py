from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpt.cache import KVCache
from gpt.config import ModelConfig
from gpt.model import ACTIVATIONS, GPT, attention, attention_formula, rotary, rotate
from tests.conftest import random_model
from tests.gpt.test_quantize import VARIANTS as FAMILIES
from tests.peers import as_llama, random_gpt2

# "Your journey starts with one step", one row a word: the worked example of Raschka's book.
INPUTS = torch.tensor(
    [
        [0.43, 0.15, 0.89],
        [0.55, 0.87, 0.66],
        [0.57, 0.85, 0.64],
        [0.22, 0.58, 0.33],
        [0.77, 0.25, 0.10],
        [0.05, 0.80, 0.55],
    ]
)
SEES_ALL = torch.ones(6, 6, dtype=torch.bool)


def close(a: Tensor, b: object, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b), atol=tolerance, rtol=0)


def test_worked_example_without_weights() -> None:
    x = INPUTS[None, None]
    weights = attention(x, x, torch.eye(6)[None, None], scale=1.0, mask=SEES_ALL)[0, 0, 1]
    close(weights, [0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581])
    close(attention(x, x, x, scale=1.0, mask=SEES_ALL)[0, 0, 1], [0.4419, 0.6515, 0.5683])


def test_worked_example_with_weights() -> None:
    torch.manual_seed(123)
    q, k, v = (INPUTS[None, None] @ torch.rand(3, 2) for _ in range(3))
    weights = attention(q, k, torch.eye(6)[None, None], scale=2**-0.5, mask=SEES_ALL)[0, 0, 1]
    close(weights, [0.1500, 0.2264, 0.2199, 0.1311, 0.0906, 0.1820])
    close(attention(q, k, v, scale=2**-0.5, mask=SEES_ALL)[0, 0, 1], [0.3061, 0.8210])


def test_softmax_of_the_lecture() -> None:
    close(torch.tensor([2.0, 4.0, 5.0]).softmax(-1), [0.0351, 0.2595, 0.7054])


def test_attention_sees_no_future() -> None:
    x = torch.randn(1, 1, 5, 4)
    weights = attention(x, x, torch.eye(5)[None, None], scale=1.0)[0, 0]
    assert torch.equal(weights, weights.tril())
    chunk = attention(x[:, :, 3:], x, torch.eye(5)[None, None], scale=1.0)[0, 0]
    close(chunk, weights[3:], 1e-6)


@pytest.mark.parametrize(("n_new", "n_all"), [(1, 1), (1, 7), (3, 7), (7, 7)])
@pytest.mark.parametrize("scale", [1.0, 8**-0.5])
@pytest.mark.parametrize("kv", [6, 3, 2, 1])
def test_the_fused_attention_computes_the_formula(
    n_new: int, n_all: int, scale: float, kv: int
) -> None:
    torch.manual_seed(4)
    q, k = torch.randn(2, 6, n_new, 8), torch.randn(2, kv, n_all, 8)
    for v in (torch.randn(2, kv, n_all, 8), torch.eye(n_all).expand(2, kv, -1, -1)):
        close(attention(q, k, v, scale=scale), attention_formula(q, k, v, scale=scale), 1e-6)


def test_a_single_query_of_shared_heads_obeys_its_mask() -> None:
    torch.manual_seed(5)
    q, k, v = torch.randn(1, 6, 1, 8), torch.randn(1, 2, 9, 8), torch.randn(1, 2, 9, 8)
    mask = torch.zeros(1, 1, 1, 9)
    mask[..., 6:] = torch.finfo(torch.float32).min
    seen = attention(q, k[:, :, :6], v[:, :, :6], scale=0.4)
    close(attention(q, k, v, scale=0.4, mask=mask), seen, 1e-6)
    close(attention(q, k, v, scale=0.4, mask=mask[0, 0] == 0), seen, 1e-6)


def test_the_network_computes_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ids = random_model(), torch.randint(29, (2, 20))
    expected, calls = model(ids), []

    def formula(q: Tensor, k: Tensor, v: Tensor, *, scale: float, **_: Any) -> Tensor:
        calls.append(scale)
        return attention_formula(q, k, v, scale=scale)

    monkeypatch.setattr("gpt.model.attention", formula)
    cache = KVCache(model.config, batch=2)
    chunks = [model(chunk, cache) for chunk in ids.split([9, 1, 10], dim=1)]
    close(torch.cat(chunks, dim=1), expected, 2e-5)
    assert len(calls) == 3 * model.config.n_layer


VARIANTS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "rotary gated rmsnorm": {
        "positions": "rotary",
        "gated": True,
        "norm": "rmsnorm",
        "norm_gain": False,
        "bias": False,
        "tied": False,
        "activation": "silu",
    },
    "opt-350m": {"norm_first": False, "final_norm": False, "embd_dim": 8, "activation": "relu"},
    "scales": {"attn_scale": False, "attn_scale_by_layer": True},
    "head size 1": {"n_head": 16},
    "bigram": {"n_layer": 0, "positions": "rotary"},
    **{name: FAMILIES[name] for name in ("llama", "qwen", "neox")},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_cached_in_any_chunks_and_after_truncation_equals_uncached(
    changes: dict[str, object], data: st.DataObject
) -> None:
    model = random_model(**changes)
    ids = torch.randint(29, (1, 20))
    expected = model(ids)
    cache = KVCache(model.config)
    done = 0
    while done < 20:
        if data.draw(st.booleans()):
            done = data.draw(st.integers(0, done))
            cache.truncate(done)
        n = data.draw(st.integers(1, 20 - done))
        close(model(ids[:, done : done + n], cache), expected[:, done : done + n], 2e-5)
        done += n
        assert cache.length == done


@settings(deadline=None, max_examples=30)
@given(
    n_kv=st.sampled_from([1, 2, 3, 6]),
    family=st.sampled_from(["gpt2", "llama", "qwen", "neox"]),
    seed=st.integers(0, 99),
)
def test_shared_heads_are_heads_whose_keys_and_values_repeat(
    n_kv: int, family: str, seed: int
) -> None:
    fields = {"n_head": 6, "n_embd": 48, **FAMILIES[family]}
    shared = random_model(**fields | {"n_kv_head": n_kv})
    full = random_model(**fields | {"n_kv_head": None})
    weights = shared.state_dict()
    hs = shared.config.head_size
    for name in [name for name in weights if ".qkv." in name]:
        q, *kv = weights[name].split(shared.config.qkv_rows)
        repeated = [each.unflatten(0, (n_kv, hs)).repeat_interleave(6 // n_kv, 0) for each in kv]
        weights[name] = torch.cat([q, *(each.flatten(0, 1) for each in repeated)])
    full.load_state_dict(weights)
    ids = torch.randint(29, (2, 20), generator=torch.Generator().manual_seed(seed))
    cache = KVCache(shared.config, batch=2)
    found = torch.cat([shared(chunk, cache) for chunk in ids.split([7, 1, 12], dim=1)], dim=1)
    close(found, full(ids), 5e-5)
    assert cache.memory(20).shape == (2, 2, 2, n_kv, 20, hs)


def test_cache_memory_follows_what_is_read_and_not_what_is_claimed() -> None:
    model = random_model(block_size=2_000_000_000, positions="rotary")
    cache = KVCache(model.config)
    model(torch.zeros(1, 3, dtype=torch.long), cache)
    assert cache._memory.numel() < 10_000


def test_cache_keeps_what_it_is_told_in_fewer_bits() -> None:
    model = random_model()
    ids = torch.randint(29, (1, 9))
    cache = KVCache(model.config, dtype=torch.float16)
    found = model(ids, cache)
    assert 1e-6 < (found - model(ids)).abs().max() < 0.01
    k = torch.randn(1, model.config.n_head, 1, model.config.head_size)
    other = cache.copy(9, [0])
    keys, values = other.append(0, k, k)
    assert keys.dtype == values.dtype == torch.float32
    assert torch.equal(keys[:, :, -1:], k.half().float())
    assert {kept.dtype for kept in (cache._memory, other._memory, *other.layer_tensors())} == {
        torch.float16
    }


def test_cache_keeps_a_batch_apart() -> None:
    model = random_model()
    ids = torch.randint(29, (3, 9))
    cache = KVCache(model.config, batch=3)
    model(ids[:, :5], cache)
    close(model(ids[:, 5:], cache), model(ids)[:, 5:], 1e-5)


def test_cache_cannot_be_truncated_to_more_than_it_has() -> None:
    with pytest.raises(ValueError, match="of 0 tokens to 1"):
        KVCache(random_model().config).truncate(1)


def test_bigram_model_looks_at_one_token_only() -> None:
    model = random_model(n_layer=0, positions="rotary")
    logits = model(torch.tensor([[5, 7, 7, 5]]))[0]
    assert torch.equal(logits[0], logits[3])
    assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_transformers(name: str) -> None:
    from transformers.activations import ACT2FN

    theirs = ACT2FN[{"gelu_tanh": "gelu_new"}.get(name, name)]
    x = torch.linspace(-4, 4, 101)
    close(ACTIVATIONS[name](x), theirs(x), 1e-6)


def test_agrees_with_gpt2_of_transformers() -> None:
    torch.manual_seed(1)
    from transformers import GPT2Config

    config = GPT2Config(vocab_size=61, n_positions=24, n_embd=32, n_layer=3, n_head=4)
    config.initializer_range = 0.3
    ours, theirs = random_gpt2(config)
    ids = torch.randint(61, (2, 24))
    with torch.no_grad():
        close(ours(ids), theirs(ids).logits)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_head": 4, "n_kv_head": 2},
        {"n_kv_head": 1, "head_dim": 6},
        {"rope_scaling": "linear", "rope_factor": 3.0},
        {"rope_scaling": "llama3", "rope_factor": 8.0, "rope_original": 10},
    ],
)
def test_agrees_with_llama_of_transformers(changes: dict[str, Any]) -> None:
    ours = random_model(**VARIANTS["rotary gated rmsnorm"] | changes)
    ids = torch.randint(29, (2, 32))
    with torch.no_grad():
        close(ours(ids), as_llama(ours)(ids).logits)


ROPE: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"rope_scaling": "linear", "rope_factor": 4.0},
    "llama3": {"rope_scaling": "llama3", "rope_factor": 8.0, "rope_original": 256},
    "other bounds": {
        "rope_scaling": "llama3",
        "rope_factor": 32.0,
        "rope_original": 100,
        "rope_low": 2.0,
        "rope_high": 9.0,
    },
}


@pytest.mark.parametrize("changes", ROPE.values(), ids=ROPE)
@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
def test_rotary_angles_are_those_of_transformers_beyond_the_original_context(
    theta: float, changes: dict[str, Any]
) -> None:
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    fields = VARIANTS["rotary gated rmsnorm"] | {"n_embd": 128, "block_size": 2048}
    ours = random_model(**fields, **changes, rope_theta=theta)
    theirs = LlamaRotaryEmbedding(as_llama(ours).config)
    positions = torch.arange(2048)
    expected = theirs(torch.zeros(1), positions[None])  # each angle twice
    for found, both_halves in zip(rotary(positions, ours.config), expected, strict=True):
        close(torch.cat((found, found), dim=-1), both_halves[0], 1e-6)


@pytest.mark.parametrize("rotary_dim", [2, 6])
def test_components_that_are_not_rotated_stay(rotary_dim: int) -> None:
    config = random_model(positions="rotary", rotary_dim=rotary_dim).config
    x = torch.randn(1, 2, 5, 8)
    turned = rotate(x, rotary(torch.arange(5), config))
    assert torch.equal(turned[..., rotary_dim:], x[..., rotary_dim:])
    whole = random_model(positions="rotary", head_dim=rotary_dim).config
    alone = rotate(x[..., :rotary_dim], rotary(torch.arange(5), whole))
    close(turned[..., :rotary_dim], alone, 1e-6)
    assert not torch.allclose(turned[..., 1:, :rotary_dim], x[..., 1:, :rotary_dim])


def test_norms_of_queries_and_keys_make_their_lengths_irrelevant() -> None:
    model = random_model(**FAMILIES["qwen"])
    ids = torch.randint(29, (1, 12))
    before = model(ids)
    q_rows, k_rows, _ = model.config.qkv_rows
    attn: Any = model.h[0].attn
    for part in (attn.qkv.weight, attn.qkv.bias):
        part[: q_rows + k_rows] *= 3
    close(model(ids), before, 2e-4)
    attn.q_norm.weight *= 3
    assert (model(ids) - before).abs().max() > 0.01


def test_a_parallel_block_adds_both_outputs_to_what_both_read() -> None:
    block: Any = random_model(**FAMILIES["neox"], n_layer=1).h[0]
    x = torch.randn(1, 6, 16)
    found = block(x, None, None)
    close(found, x + block.attn(block.ln_1(x), None, None) + block.mlp(block.ln_2(x)), 1e-6)
    block.parallel = False  # one after the other
    assert (block(x, None, None) - found).abs().max() > 0.1


@pytest.mark.parametrize("like_350m", [False, True])
def test_agrees_with_opt_of_transformers(like_350m: bool) -> None:
    from transformers import OPTConfig, OPTForCausalLM

    torch.manual_seed(2)
    theirs = OPTForCausalLM(
        OPTConfig(
            vocab_size=61,
            max_position_embeddings=24,
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            ffn_dim=48,
            word_embed_proj_dim=16 if like_350m else 32,
            do_layer_norm_before=not like_350m,
            init_std=0.3,
        )
    ).eval()
    ours = GPT(
        ModelConfig(
            vocab_size=61,
            block_size=24,
            n_layer=3,
            n_head=4,
            n_embd=32,
            n_inner=48,
            activation="relu",
            embd_dim=16 if like_350m else None,
            norm_first=not like_350m,
            final_norm=not like_350m,
        )
    ).eval()
    their = theirs.model.decoder.state_dict()
    renamed = {
        "wte.weight": their["embed_tokens.weight"],
        "wpe.weight": their["embed_positions.weight"][2:],
    }
    if like_350m:
        renamed["proj_in.weight"] = their["project_in.weight"]
        renamed["proj_out.weight"] = their["project_out.weight"]
    else:
        renamed["ln_f.weight"] = their["final_layer_norm.weight"]
        renamed["ln_f.bias"] = their["final_layer_norm.bias"]
    for i in range(3):
        old, new = f"layers.{i}.", f"h.{i}."
        for part in ("weight", "bias"):
            qkv = [their[f"{old}self_attn.{x}_proj.{part}"] for x in "qkv"]
            renamed[f"{new}attn.qkv.{part}"] = torch.cat(qkv)
            for a, b in (
                ("self_attn.out_proj", "attn.proj"),
                ("self_attn_layer_norm", "ln_1"),
                ("final_layer_norm", "ln_2"),
                ("fc1", "mlp.fc"),
                ("fc2", "mlp.proj"),
            ):
                renamed[f"{new}{b}.{part}"] = their[f"{old}{a}.{part}"]
    ours.load_state_dict(renamed)
    ids = torch.randint(4, 61, (2, 24))
    with torch.no_grad():
        close(ours(ids), theirs(ids).logits)
