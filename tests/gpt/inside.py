"""What the tests of the inside of a network share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gpt.context import Context
from gpt.model import GPT
from tests.conftest import context_of, random_model
from tests.gpt.test_quantize import VARIANTS, WIDER

TEXT = "to be or not to be that is"
FAMILIES: dict[str, dict[str, Any]] = {
    **VARIANTS,
    "post-norm": {"norm_first": False, "final_norm": False, "embd_dim": 8},
    "grouped": {**VARIANTS["llama"], "n_head": 4, "n_kv_head": 2},
    "no final norm": {"final_norm": False, "bias": False},
    "bigram": {"n_layer": 0, "positions": "rotary"},
}


def context_like(family: str, **changes: Any) -> Context:
    """A context of a tiny random model of a family."""
    return context_of(random_model(**{**FAMILIES[family], **changes}))


def last_logits(model: GPT, ids: list[int]) -> Tensor:
    """Logits (V) after ids, of the plain network without a cache."""
    with torch.no_grad():
        return model(torch.tensor([ids]))[0, -1]


def is_untouched(model: GPT) -> bool:
    """Whether nothing is hooked into a network."""
    return not any(
        module._forward_hooks
        or module._forward_pre_hooks
        or {"mix", "forward", "hidden"} & module.__dict__.keys()
        for module in model.modules()
    )


__all__ = ["FAMILIES", "TEXT", "WIDER", "context_like", "is_untouched", "last_logits"]
