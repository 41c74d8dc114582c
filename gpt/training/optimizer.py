"""Optimizers: our own Scion, and PyTorch's Muon and AdamW to compare it with.

Scion (Pethick et al. 2025, "Training Deep Learning Models with Norm-Constrained LMOs",
arXiv:2502.07529) keeps every weight in a ball of a norm that fits the weight's role. A step goes
from the weight towards the point of the ball that lowers the loss most:

    W ← W - lr (direction(m) + W / radius),    m ← momentum m + (1 - momentum) gradient.

The term W / radius is the regularization; no other weight decay is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gpt.errors import UserError
from gpt.model import GPT


@dataclass(frozen=True)
class Ball:
    """A ball of some norm.

    direction: m → the point of the unit ball where the linear function given by m is largest.
    """

    direction: Callable[[Tensor], Tensor]
    radius: float


def orthogonal(m: Tensor) -> Tensor:
    """For the spectral norm: the nearest matrix with singular values 1, times √(out / in).

    m (…, out, in). Five steps of the Newton-Schulz iteration with the coefficients of Muon
    (Jordan et al. 2024), which bring singular values close to 1 quickly, but not exactly to 1.
    """
    rows, columns = m.shape[-2:]
    x = m.bfloat16()
    if rows > columns:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        b = -4.7750 * a + 2.0315 * a @ a
        x = 3.4445 * x + b @ x
    if rows > columns:
        x = x.mT
    nearest: Tensor = x.type_as(m) * math.sqrt(rows / columns)
    return nearest


def unit_rows(m: Tensor) -> Tensor:
    """For the embedding: each row (one token) scaled to a root mean square of 1."""
    return m / (m.square().mean(dim=-1, keepdim=True).sqrt() + 1e-8)


def signs(m: Tensor) -> Tensor:
    """For the output matrix: the sign of each number, divided by the number of inputs."""
    return m.sign() / m.size(-1)


HIDDEN, EMBEDDING, HEAD = Ball(orthogonal, 3.0), Ball(unit_rows, 1.0), Ball(signs, 10.0)


def balls(model: GPT) -> list[tuple[Ball, nn.Parameter]]:
    """Each weight of a network with its ball. Biases and gains have none and are left out."""
    found = []
    for name, weight in model.named_parameters():
        if name in ("wte.weight", "wpe.weight"):
            found.append((EMBEDDING, weight))
        elif name == "lm_head.weight":
            found.append((HEAD, weight))
        elif weight.ndim == 2:
            found.append((HIDDEN, weight))
    return found


def _blocks(weight: Tensor) -> Tensor:
    """Split the shared matrix of queries, keys and values: (3C, C) → (3, C, C).

    One with fewer heads of keys and values, or other heads, stays whole.
    """
    rows, columns = weight.shape
    return weight.view(3, columns, columns) if rows == 3 * columns else weight


@torch.no_grad()
def start_on_the_balls(model: GPT) -> None:
    """Set random weights on the surface of their balls: orthogonal, unit rows or signs."""
    for ball, weight in balls(model):
        if ball == HIDDEN:
            for block in _blocks(weight).reshape(-1, *_blocks(weight).shape[-2:]):
                rows, columns = block.shape
                block.copy_(nn.init.orthogonal_(torch.empty_like(block)))
                block.mul_(ball.radius * math.sqrt(rows / columns))
        else:
            weight.copy_(ball.radius * ball.direction(torch.randn_like(weight)))


class Scion(torch.optim.Optimizer):
    """Does the step above for (ball, weight) pairs."""

    def __init__(
        self, pairs: Iterable[tuple[Ball, nn.Parameter]], lr: float, momentum: float = 0.93
    ) -> None:
        groups = [{"params": [weight], "ball": ball} for ball, weight in pairs]
        super().__init__(groups, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            ball: Ball = group["ball"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                m = state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                blocks = _blocks(m) if ball == HIDDEN else m
                direction = ball.direction(blocks).view_as(weight)
                weight.sub_(direction + weight / ball.radius, alpha=group["lr"])


def optimizers(
    model: GPT, name: str, lr: float, momentum: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Set random first weights that suit an optimizer, and return the optimizers for them.

    name: scion; muon (Jordan et al. 2024, PyTorch's, for hidden matrices, with AdamW for the
    rest); or adamw (Loshchilov and Hutter 2017, arXiv:1711.05101).
    """
    if name == "scion":
        pairs = balls(model)
        if len(pairs) != len(list(model.parameters())):
            raise UserError("scion trains networks without biases and gains; use adamw or muon")
        start_on_the_balls(model)
        return [Scion(pairs, lr, momentum)]
    for weight in model.parameters():
        if weight.ndim == 2:
            nn.init.normal_(weight, std=0.02)  # as in GPT-2
    hidden = [w for ball, w in balls(model) if ball == HIDDEN] if name == "muon" else []
    hidden_ids = {id(weight) for weight in hidden}
    rest = [weight for weight in model.parameters() if id(weight) not in hidden_ids]
    groups: list[dict[str, Any]] = [
        {"params": [w for w in rest if w.ndim == 2], "weight_decay": weight_decay},
        {"params": [w for w in rest if w.ndim == 1], "weight_decay": 0.0},
    ]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([g for g in groups if g["params"]], lr, betas=(0.9, 0.99))
    ]
    if hidden:
        muon = torch.optim.Muon(
            hidden,
            lr,
            momentum=momentum,
            weight_decay=weight_decay,
            adjust_lr_fn="match_rms_adamw",  # so that one learning rate suits both
        )
        found.append(muon)
    return found
