"""Tiny random models: every test runs without the network and without a trained weight."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

import tui  # noqa: F401  before Textual, which reads then how dim letters are
from gpt.checkpoint import Checkpoint, load, save
from gpt.config import ModelConfig
from gpt.context import Context
from gpt.model import GPT
from gpt.tokenizer import CharTokenizer

# A machine that is busy is slow, and that is no fault of what is tested.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

TINY: dict[str, Any] = {
    "vocab_size": 29,
    "block_size": 32,
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 16,
}
CHARACTERS = "abcdefghijklmnopqrstuvwxyz \n."


def random_model(**changes: Any) -> GPT:
    """A network whose distributions are far from uniform, so that mistakes show."""
    torch.manual_seed(0)
    model = GPT(ModelConfig(**{**TINY, **changes})).eval().requires_grad_(False)
    for name, weight in model.named_parameters():
        if weight.ndim == 2:
            weight.normal_(std=1.0 if name.startswith("wte") else 0.3)
        else:
            weight.add_(torch.randn_like(weight) * 0.1)
    return model


def context_of(model: GPT) -> Context:
    """A context for a network without a checkpoint."""
    return Context(model, CharTokenizer(CHARACTERS))


def make_pipe(path: Path) -> None:
    """A named pipe, which would keep a careless reader waiting for ever."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("Windows has no named pipes in directories")
    os.mkfifo(path)


@pytest.fixture
def tiny_directory(tmp_path: Path) -> Path:
    """A checkpoint of a tiny random character model."""
    directory = tmp_path / "models" / "tiny"
    save(directory, random_model(), CharTokenizer(CHARACTERS), origin={"kind": "random"})
    return directory


@pytest.fixture
def tiny(tiny_directory: Path) -> Checkpoint:
    """The same, loaded."""
    return load(tiny_directory)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the user's own directories."""
    monkeypatch.setenv("GPT_TUI_HOME", str(tmp_path))
    return tmp_path
