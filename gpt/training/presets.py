"""Presets: networks of several sizes, each with settings to train it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpt.training.loop import TrainConfig


@dataclass(frozen=True)
class Preset:
    """A network (fields of ModelConfig, without the vocabulary) and how it is trained."""

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
    # Without blocks, the previous character alone predicts the next one. The embedding is at least
    # as wide as there are characters (65 in tiny Shakespeare) and there is no norm, so the
    # product of the embedding and the output matrix can be any table.
    "bigram": Preset(
        {
            "block_size": 32,
            "n_layer": 0,
            "n_head": 1,
            "n_embd": 128,
            "positions": "rotary",
            "final_norm": False,
            "tied": False,
        },
        TrainConfig(
            steps=1000, batch_size=64, lr=0.01, optimizer="adamw", warmup=0, weight_decay=0.0
        ),
    ),
    # The GPT of the lecture "Let's build GPT" (Karpathy 2023).
    "lecture": Preset(
        {
            "block_size": 256,
            "n_layer": 6,
            "n_head": 6,
            "n_embd": 384,
            "activation": "relu",
            "tied": False,
            "dropout": 0.2,
            "attn_dropout": 0.2,
        },
        TrainConfig(
            steps=5000,
            batch_size=64,
            lr=3e-4,
            optimizer="adamw",
            weight_decay=0.01,
            warmup=0,
            cooldown=0.0,
        ),
    ),
    # A readable text after less than a minute on two cores: small batches and Muon's large steps,
    # because so little is read, and a learning rate that falls from early on.
    "speedrun": Preset(
        {**_modern(4, 64, 2, 168, 64), "dropout": 0.0},
        TrainConfig(
            steps=800,
            batch_size=16,
            lr=0.012,
            optimizer="muon",
            momentum=0.9,
            weight_decay=0.01,
            warmup=20,
            cooldown=0.7,
            precision="float32",
        ),
    ),
    "128": Preset(
        {**_modern(4, 128, 4, 384, 128), "dropout": 0.0},
        TrainConfig(steps=1500, batch_size=32, lr=0.035),
    ),
    "192": Preset(
        {**_modern(6, 192, 3, 512, 256), "dropout": 0.05},
        TrainConfig(steps=2000, batch_size=32, lr=0.025),
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
