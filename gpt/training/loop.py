"""The training loop. It does not depend on a terminal or on files."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gpt.device import fast_precision
from gpt.errors import UserError
from gpt.model import GPT
from gpt.training.data import Corpus, batch
from gpt.training.dropout import use_bytes
from gpt.training.evaluate import mean_loss
from gpt.training.optimizer import optimizers
from gpt.training.parallel import Group


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a network is trained; a value out of range raises UserError."""

    steps: int
    """Number of optimizer steps."""
    batch_size: int
    """Windows of block_size tokens per step, over all processes."""
    lr: float
    """Peak learning rate."""
    optimizer: Literal["scion", "muon", "adamw"] = "scion"
    """Algorithm: scion needs a network of matrices only; muon trains the rest with AdamW."""
    momentum: float = 0.95
    """Decay of the average of past gradients, for Scion and Muon."""
    weight_decay: float = 0.1
    """Weight decay of matrices, for Muon and AdamW."""
    clip: float = 0.0
    """Largest norm of the gradient of all weights; larger ones are scaled down. 0: no limit."""
    warmup: int = 100
    """Steps at the start in which the learning rate rises to its peak."""
    cooldown: float = 0.15
    """Share of the steps, at the end, in which the learning rate falls to 0. 0: it stays."""
    average: float = 0.0
    """Decay of an exponential average of the weights, which becomes the model. 0: no average."""
    eval_every: int = 200
    """Steps between measurements of the validation loss; the run is saved after each."""
    patience: int = 0
    """Measurements without a new best loss before the run stops. 0: it does not stop early."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Dtype of products; weights are float32. auto: bfloat16 if the device is faster with it."""
    seed: int = 1
    """Random seed of the first weights, of dropout and of the order of the windows."""

    def __post_init__(self) -> None:
        for name, (noun, is_right) in RANGES.items():
            if not is_right(getattr(self, name)):
                raise UserError(f"{name} is {getattr(self, name)}; it must be {noun}")
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise UserError(
                    f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(choices)}"
                )


_COUNT = "a whole number of at least 1", lambda n: n >= 1
_COUNT_OR_NONE = "a whole number of at least 0", lambda n: n >= 0
_SIZE = "a number of at least 0", lambda x: 0 <= x < math.inf
_DECAY = "a number of at least 0 and below 1", lambda x: 0 <= x < 1
RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {
    "steps": _COUNT,
    "batch_size": _COUNT,
    "lr": ("a number above 0", lambda x: 0 < x < math.inf),
    "momentum": _DECAY,
    "weight_decay": _SIZE,
    "clip": _SIZE,
    "warmup": _COUNT_OR_NONE,
    "cooldown": ("a number from 0 to 1", lambda x: 0 <= x <= 1),
    "average": _DECAY,
    "eval_every": _COUNT,
    "patience": _COUNT_OR_NONE,
    "seed": (f"a whole number from 0 to {2**32 - 1}", lambda n: 0 <= n < 2**32),
}
"""Number among the settings → what it must be, in words, and whether a value is that."""
_CHOICES = {
    "optimizer": ("scion", "muon", "adamw"),
    "precision": ("auto", "float32", "bfloat16"),
}


@dataclass(frozen=True)
class StepReport:
    """Numbers about one step of training."""

    step: int
    """Number of the step, from 1."""
    loss: float
    """Loss of this step's batch before the step, in nats per token."""
    validation_loss: float | None
    """Loss over the whole validation part after this step, if it was measured."""
    lr: float
    """Learning rate of this step."""
    tokens_per_second: float
    """Speed of this step, over all processes."""


class Training:
    """A training run: a network, its optimizers and the number of steps done.

    Everything random in a step comes from the seed and the step's number. So a run that continues
    after `load_state` ends with the same weights as one that was never interrupted.
    """

    def __init__(
        self,
        model: GPT,
        corpus: Corpus,
        settings: TrainConfig,
        *,
        group: Group | None = None,
        compiled: bool = False,
    ) -> None:
        """compiled: use torch.compile. Raises UserError if the settings do not fit the network."""
        device = model.wte.weight.device
        if settings.precision == "auto":
            settings = replace(settings, precision=fast_precision(device))
        group = group or Group()
        if settings.batch_size % group.size:
            raise UserError(
                f"a batch of {settings.batch_size} windows cannot be shared among {group.size} "
                "processes; choose another --batch-size"
            )
        corpus.check_length(model.config.block_size)
        use_bytes(model)  # faster dropout, see gpt/training/dropout.py
        self.model, self.corpus, self.settings = model, corpus, settings
        self.step = 0
        self.best_loss, self.best_step = math.inf, 0
        torch.manual_seed(settings.seed)
        self.optimizers = optimizers(
            model, settings.optimizer, settings.lr, settings.momentum, settings.weight_decay
        )
        self._average = None
        if settings.average:
            mean = get_ema_multi_avg_fn(settings.average)  # type: ignore[no-untyped-call]
            self._average = AveragedModel(model, multi_avg_fn=mean)
        self._group = group
        forward = group.wrap(model)
        self._forward = torch.compile(forward) if compiled else forward

    @property
    def learned(self) -> GPT:
        """The network that is measured and saved: the average if there is one."""
        return cast(GPT, self._average.module) if self._average else self.model

    @property
    def out_of_patience(self) -> bool:
        """Whether the run should stop because the validation loss has not improved for long."""
        waited = (self.step - self.best_step) // self.settings.eval_every
        return 0 < self.settings.patience <= waited

    def run(self) -> Iterator[StepReport]:
        """Do the remaining steps, and yield after each.

        Raises UserError with the step's number if the loss is not finite.
        """
        settings, T = self.settings, self.model.config.block_size
        device = self.model.wte.weight.device
        self.model.train()
        while self.step < settings.steps:
            started = time.perf_counter()
            # Each run, step and process has its own dropout, whatever ran before it.
            torch.manual_seed((settings.seed * 2**24 + self.step) * 2**8 + self._group.rank)
            windows = batch(
                self.corpus.train,
                self.step,
                batch_size=settings.batch_size,
                block_size=T,
                seed=settings.seed,
            )
            loss = self._descend(windows[self._group.rank :: self._group.size].to(device))
            if not math.isfinite(loss):
                raise UserError(f"the loss is {loss} at step {self.step + 1}; use a smaller --lr")
            seconds = time.perf_counter() - started
            lr = settings.lr * rate(self.step, settings)
            self.step += 1
            yield StepReport(self.step, loss, self._measure(), lr, windows[:, 1:].numel() / seconds)
        self.model.eval()

    def _descend(self, windows: Tensor) -> float:
        """Do a step on ids (B, T + 1). Returns the loss before it, the mean over all processes."""
        with torch.autocast(
            windows.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"
        ):
            logits = self._forward(windows[:, :-1])  # (B, T, V)
        loss = F.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        if self.settings.clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.settings.lr * rate(self.step, self.settings)
            optimizer.step()
            optimizer.zero_grad()
        if self._average:
            self._average.update_parameters(self.model)
        return self._group.mean(loss.detach()).item()

    def _measure(self) -> float | None:
        """The validation loss if it is time to measure it. Remembers the best one."""
        if self.step % self.settings.eval_every and self.step != self.settings.steps:
            return None
        loss = mean_loss(self.learned, self.corpus.validation)
        if loss < self.best_loss:
            self.best_loss, self.best_step = loss, self.step
        return loss

    def state(self) -> dict[str, Any]:
        """Everything that changes during a run, as tensors and numbers."""
        return {
            "step": self.step,
            "best_loss": self.best_loss,
            "best_step": self.best_step,
            "model": self.model.state_dict(),
            "average": self._average.state_dict() if self._average else None,
            "optimizers": [optimizer.state_dict()["state"] for optimizer in self.optimizers],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from the state of a run with the same settings."""
        self.step = state["step"]
        self.best_loss, self.best_step = state["best_loss"], state["best_step"]
        self.model.load_state_dict(state["model"])
        if self._average:
            self._average.load_state_dict(state["average"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": saved, "param_groups": groups})


def rate(step: int, settings: TrainConfig) -> float:
    """Share of the peak learning rate for a step: it rises, stays, then falls to 0, linearly."""
    rising = (step + 1) / max(1, settings.warmup)
    falling = (settings.steps - step) / max(1, settings.cooldown * settings.steps)
    return min(1.0, rising, falling)
