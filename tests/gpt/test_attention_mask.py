"""On some devices attention gets a mask, because its own way of not looking ahead leaks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from gpt import model
from tests.conftest import random_model


def test_a_mac_gets_masks() -> None:
    assert model.MASKED == ("mps",)


def test_a_mask_does_what_is_causal_does(monkeypatch: pytest.MonkeyPatch) -> None:
    network, ids = random_model(), torch.randint(29, (2, 17))
    expected = network(ids)
    attend, asked = F.scaled_dot_product_attention, []

    def watched(*tensors: torch.Tensor, **how: Any) -> torch.Tensor:
        asked.append(how)
        return attend(*tensors, **how)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    monkeypatch.setattr(model, "MASKED", ("cpu",))
    cache = network.new_cache()
    for tokens in (ids, ids[:, :1]):
        torch.testing.assert_close(network(tokens), expected[:, : tokens.size(1)])
    parts = [network(part, cache) for part in ids[:1].split([6, 10, 1], dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected[:1])
    assert asked
    assert not any(how["is_causal"] for how in asked)
