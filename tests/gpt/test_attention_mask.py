"""On some devices attention gets a mask, because torch's `is_causal` lets tokens look ahead."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gpt import model
from tests.conftest import random_model


def test_a_mac_gets_masks() -> None:
    assert model.IS_CAUSAL_FAILS_ON == ("mps",)


def test_a_mask_has_the_effect_of_is_causal(monkeypatch: pytest.MonkeyPatch) -> None:
    network, ids = random_model(), torch.randint(29, (2, 17))
    expected = network(ids)
    fused, calls = F.scaled_dot_product_attention, []

    def watched(*tensors: Any, **options: Any) -> torch.Tensor:
        *_, is_causal = tensors
        calls.append(is_causal)
        return fused(*tensors, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    monkeypatch.setattr(model, "IS_CAUSAL_FAILS_ON", ("cpu",))
    cache = network.new_cache()
    for tokens in (ids, ids[:, :1]):
        torch.testing.assert_close(network(tokens), expected[:, : tokens.size(1)])
    chunks = [network(chunk, cache) for chunk in ids[:1].split([6, 10, 1], dim=1)]
    torch.testing.assert_close(torch.cat(chunks, dim=1), expected[:1])
    assert calls
    assert not any(calls)
