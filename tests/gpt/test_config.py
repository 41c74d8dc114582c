from __future__ import annotations

from typing import Any

import pytest

from gpt.config import ModelConfig
from gpt.errors import UserError

SMALL: dict[str, Any] = {
    "vocab_size": 10,
    "block_size": 8,
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 8,
}


def test_round_trip() -> None:
    config = ModelConfig(**SMALL, gated=True, positions="rotary", eos_id=3)
    assert ModelConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_embd": 9}, "n_embd 9 is not divisible by its n_head 2"),
        ({"vocab_size": -1}, "vocab_size is -1"),
        ({"block_size": 10**12}, "block_size is 1000000000000"),
        ({"n_layer": 10**9}, "n_layer is 1000000000"),
        ({"n_head": 0}, "n_head is 0"),
        ({"n_head": "2"}, "n_head is '2'; it must be a whole number"),
        ({"n_layer": True}, "n_layer is True; it must be a whole number"),
        ({"n_inner": 0}, "n_inner is 0"),
        ({"norm": "batchnorm"}, "norm is 'batchnorm'; it must be one of layernorm, rmsnorm"),
        ({"activation": ["gelu"]}, "activation is"),
        ({"eps": float("nan")}, "eps is nan"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"eos_id": 10}, "eos_id is 10; it must be an id of the vocabulary, from 0 to 9"),
        ({"n_embd": 6, "positions": "rotary"}, "even head size, not 3"),
        ({"n_kv_head": 3}, "n_head 2 is not divisible by its n_kv_head 3"),
        ({"n_kv_head": 0}, "n_kv_head is 0"),
        ({"n_kv_head": 4}, "n_head 2 is not divisible by its n_kv_head 4"),
        ({"head_dim": 2**31 - 1}, "n_head 2 times its head_dim 2147483647 is too large"),
        ({"head_dim": 3, "positions": "rotary"}, "even head size, not 3"),
        ({"rotary_dim": 3}, "rotary_dim is 3; it must be even, from 2 to the head size 4"),
        ({"rotary_dim": 6}, "rotary_dim is 6; it must be even, from 2 to the head size 4"),
        ({"rope_scaling": "yarn"}, "rope_scaling is 'yarn'; it must be one of linear, llama3"),
        ({"rope_scaling": "llama3"}, "needs rope_original"),
        ({"rope_factor": 0}, "rope_factor is 0; it must be above 0"),
        ({"rope_theta": 10**30}, "rope_theta is 1000000"),
        (
            {"rope_scaling": "llama3", "rope_original": 8, "rope_low": 4, "rope_high": 4},
            "rope_low 4 must be below its rope_high 4",
        ),
        ({"parallel": True, "norm_first": False}, "parallel true needs norm_first true"),
        ({"qkv_bias": 1}, "qkv_bias is 1; it must be true or false"),
        ({"tied": 1}, "tied is 1; it must be true or false"),
        ({"surprise": 1}, "unknown field 'surprise'"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        ModelConfig.from_dict(SMALL | change)
    assert "\n" not in str(refused.value)


def test_sizes_of_heads_follow_from_others_unless_they_are_given() -> None:
    plain = ModelConfig(**SMALL)
    assert (plain.head_size, plain.n_kv, plain.qkv_rows) == (4, 2, (8, 8, 8))
    assert plain.has_qkv_bias is plain.bias is True
    own = ModelConfig(**SMALL | {"n_embd": 9}, head_dim=6, n_kv_head=1, bias=False, qkv_bias=True)
    assert (own.head_size, own.n_kv, own.qkv_rows) == (6, 1, (12, 6, 6))
    assert own.has_qkv_bias is True


def test_a_missing_size_is_named() -> None:
    with pytest.raises(UserError, match="lacks n_head"):
        ModelConfig.from_dict({name: v for name, v in SMALL.items() if name != "n_head"})


def test_the_bigram_model_has_no_layers() -> None:
    assert ModelConfig.from_dict(SMALL | {"n_layer": 0}).n_layer == 0
