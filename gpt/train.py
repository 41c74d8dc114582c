"""The training loop and the recipes it is used with; it knows no terminal and no files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F

from gpt.data import Corpus, batch
from gpt.errors import UserError
from gpt.evaluate import mean_loss
from gpt.model import GPT
from gpt.optimizer import Scion, balls, start_on_the_balls


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a network is trained. Raises UserError where a value makes no sense."""

    steps: int
    """Optimizer steps."""
    batch_size: int
    """Windows of block_size tokens a step."""
    lr: float
    """Peak learning rate."""
    optimizer: Literal["scion", "adamw"] = "scion"
    """Scion for networks whose weights are all matrices, AdamW for any."""
    momentum: float = 0.95
    """Scion's average over past gradients."""
    weight_decay: float = 0.1
    """AdamW's, on matrices."""
    warmup: int = 100
    """Steps in which the learning rate rises to its peak."""
    cooldown: float = 0.15
    """Share of the steps at the end in which it falls to 0."""
    eval_every: int = 200
    """Steps between measurements of the validation loss."""
    seed: int = 1
    """Of the first weights, of dropout and of the order of the windows."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "eval_every"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.lr <= 0:
            raise UserError(f"lr is {self.lr}; it must be above 0")


@dataclass(frozen=True)
class Preset:
    """A network (fields of ModelConfig but the vocabulary) and how it is trained."""

    model: dict[str, Any]
    train: TrainConfig


def _modern(
    n_layer: int, n_embd: int, n_head: int, n_inner: int, block_size: int
) -> dict[str, Any]:
    return {
        "block_size": block_size,
        "n_layer": n_layer,
        "n_head": n_head,
        "n_embd": n_embd,
        "n_inner": n_inner,
        "norm": "rmsnorm",
        "norm_gain": False,
        "activation": "silu",
        "gated": True,
        "bias": False,
        "positions": "rotary",
        "tied": False,
    }


PRESETS = {
    "128": Preset(
        {**_modern(4, 128, 4, 384, 128), "dropout": 0.0},
        TrainConfig(steps=1500, batch_size=32, lr=0.035),
    ),
    "192": Preset(
        {**_modern(6, 192, 3, 512, 256), "dropout": 0.05},
        TrainConfig(steps=2400, batch_size=32, lr=0.025),
    ),
    "256": Preset(
        {**_modern(6, 256, 4, 704, 256), "dropout": 0.1},
        TrainConfig(steps=2400, batch_size=32, lr=0.025),
    ),
    "384": Preset(
        {**_modern(6, 384, 6, 1024, 256), "dropout": 0.15, "attn_dropout": 0.15},
        TrainConfig(steps=2000, batch_size=64, lr=0.035, momentum=0.93),
    ),
}


@dataclass(frozen=True)
class Progress:
    """What one step of training has to report."""

    step: int
    """Steps done."""
    loss: float
    """Of this step's batch, in nats a token."""
    validation_loss: float | None
    """Over the whole validation part, where it was measured after this step."""
    tokens_per_second: float
    """Of this step alone."""


def train(model: GPT, corpus: Corpus, settings: TrainConfig) -> Iterator[Progress]:
    """Train a network in place, from new weights, yielding after every step.

    bfloat16 products, float32 weights. Raises UserError naming the step at which the loss
    is no number.
    """
    torch.manual_seed(settings.seed)
    optimizer = _optimizer(model, settings)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, settings))
    device = model.wte.weight.device
    T, B = model.config.block_size, settings.batch_size
    corpus.require(T)
    model.train()
    for step in range(settings.steps):
        started = time.perf_counter()
        window = batch(corpus.train, step, batch_size=B, block_size=T, seed=settings.seed)
        window = window.to(device)  # (B, T + 1)
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(window[:, :-1])  # (B, T, V)
        loss = F.cross_entropy(logits.float().flatten(0, 1), window[:, 1:].flatten())
        if not torch.isfinite(loss):
            raise UserError(f"the loss is {loss.item()} at step {step + 1}; use a smaller --lr")
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        seconds = time.perf_counter() - started
        measured = (step + 1) % settings.eval_every == 0 or step + 1 == settings.steps
        yield Progress(
            step=step + 1,
            loss=loss.item(),
            validation_loss=mean_loss(model, corpus.validation) if measured else None,
            tokens_per_second=B * T / seconds,
        )
    model.eval()


def _optimizer(model: GPT, settings: TrainConfig) -> torch.optim.Optimizer:
    if settings.optimizer == "scion":
        pairs = balls(model)
        if len(pairs) != len(list(model.parameters())):
            raise UserError("scion trains networks without biases and gains; use adamw")
        start_on_the_balls(model)
        return Scion(pairs, settings.lr, settings.momentum)
    for weight in model.parameters():
        if weight.ndim == 2:
            torch.nn.init.normal_(weight, std=0.02)
    matrices = [w for w in model.parameters() if w.ndim == 2]
    vectors = [w for w in model.parameters() if w.ndim == 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices},
        {"params": vectors, "weight_decay": 0.0},
    ]
    decay = settings.weight_decay
    return torch.optim.AdamW(groups, settings.lr, betas=(0.9, 0.99), weight_decay=decay)


def _rate(step: int, settings: TrainConfig) -> float:
    """Share of the peak learning rate: up, flat, then down to 0 in straight lines."""
    rising = (step + 1) / max(1, settings.warmup)
    falling = (settings.steps - step) / max(1, settings.cooldown * settings.steps)
    return min(1.0, rising, falling)
