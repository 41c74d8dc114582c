"""Finds the columns of a network's matrices that meet the largest activations."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

from gpt.model import GPT
from gpt.weights.groups import n_loud
from gpt.weights.quantize import Linear

_TEXTS, _TOKENS = 4, 64
"""Random texts that the network reads, and tokens in each. They find what real text finds."""


@torch.inference_mode()
def loud_columns(model: GPT) -> dict[str, list[int]]:
    """Name of each matrix → its columns whose inputs have the largest mean squares, largest first.

    model: in float32.
    """
    squares: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))

    def listen(name: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            squares[name] = squares[name] + inputs[0].square().sum((0, 1))  # (in)

        return module.register_forward_pre_hook(add)

    handles = [
        listen(name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Linear) and name != "lm_head"
    ]
    generator = torch.Generator().manual_seed(0)
    size = min(_TOKENS, model.config.block_size)
    output = "wte" if model.config.tied else "lm_head"
    for _ in range(_TEXTS):
        ids = torch.randint(model.config.vocab_size, (1, size), generator=generator)
        squares[output] = squares[output] + model.hidden(ids).square().sum((0, 1))  # (E)
    for handle in handles:
        handle.remove()
    return {name: each.topk(n_loud(len(each))).indices.tolist() for name, each in squares.items()}
