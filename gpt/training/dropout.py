"""Dropout that needs few random numbers: on a CPU they take a large part of a step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gpt.model import GPT


class ByteDropout(nn.Dropout):
    """As nn.Dropout, but on a CPU each byte of a random number decides about one activation.

    So the share is rounded to 256ths; what stays is scaled by the rounded share.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape → the same shape."""
        dropped = round(256 * self.p)
        if not self.training or not 0 < dropped < 256 or x.device.type != "cpu":
            return super().forward(x)
        numbers = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        is_kept = numbers.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
        # A product with booleans would take longer.
        return x * is_kept.to(x.dtype).mul_(256 / (256 - dropped))


def use_bytes(model: GPT) -> None:
    """Replace every nn.Dropout of a network by ByteDropout."""
    for part in list(model.modules()):
        for name, child in part.named_children():
            if type(child) is nn.Dropout:
                setattr(part, name, ByteDropout(child.p))
