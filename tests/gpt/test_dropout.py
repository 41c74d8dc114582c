"""Dropout with a byte of a random number for each activation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gpt.config import ModelConfig
from gpt.model import GPT
from gpt.training.dropout import ByteDropout, use_bytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 0.9])
def test_a_share_is_dropped_and_the_mean_stays(share: float, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    x = torch.ones(64, 33, 31, dtype=dtype, requires_grad=True)  # no multiple of 8
    y = ByteDropout(share)(x)
    assert y.shape == x.shape and y.dtype == dtype
    assert (y == 0).float().mean().item() == pytest.approx(share, abs=0.01)
    assert y.float().mean().item() == pytest.approx(1, abs=0.05)
    assert len(y.unique()) == 2
    y.sum().backward()
    assert x.grad is not None and torch.equal(x.grad, y)  # the same mask


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(1)
    kept = (ByteDropout(0.5)(torch.ones(80_000)) > 0).float() - 0.5
    for distance in range(1, 17):
        products = kept[:-distance] * kept[distance:]
        assert abs(products.mean().item()) < 0.005, distance


def test_only_training_drops_and_the_seed_repeats_it() -> None:
    x, drop = torch.randn(100), ByteDropout(0.3)
    masks = []
    for _ in range(2):
        torch.manual_seed(7)
        masks.append(drop(x))
    assert torch.equal(*masks) and not torch.equal(masks[0], drop(x))
    assert torch.equal(drop.eval()(x), x)


def test_every_dropout_of_a_network_is_replaced() -> None:
    model = GPT(
        ModelConfig(vocab_size=5, block_size=4, n_layer=2, n_embd=8, n_head=2, dropout=0.25)
    )
    before = [name for name, part in model.named_modules() if type(part) is nn.Dropout]
    use_bytes(model)
    after = {name: part for name, part in model.named_modules() if isinstance(part, nn.Dropout)}
    assert list(after) == before and len(before) == 5
    assert all(type(part) is ByteDropout and part.p == 0.25 for part in after.values())
