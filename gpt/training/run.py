"""A training run: its steps, and everything that is saved and shown meanwhile."""

from __future__ import annotations

import math
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import torch

from gpt import checkpoint
from gpt.context import Context
from gpt.errors import UserError
from gpt.generate import Limits, generate
from gpt.model import GPT
from gpt.settings import Sampling
from gpt.tokenizer import decode
from gpt.training.display import Display
from gpt.training.evaluate_command import measure
from gpt.training.loop import Training
from gpt.training.parallel import Group
from gpt.training.recipe import PreparedData, Recipe
from gpt.training.report import Report, draw_curves, write_report
from gpt.training.run_files import RunFiles

_DTYPE = "bfloat16"
"""How a trained model is stored."""


class Run:
    """Runs a training with its files and its display."""

    def __init__(
        self,
        files: RunFiles,
        training: Training,
        recipe: Recipe,
        data: PreparedData,
        display: Display,
        sample_every: int,
    ) -> None:
        """sample_every: steps between samples of text; 0: no samples."""
        self._files, self._training, self._recipe = files, training, recipe
        self._data, self._display, self._sample_every = data, display, sample_every
        self._save_error: UserError | None = None

    def train(self, group: Group) -> bool:
        """Do all steps. Returns whether the run is complete; else it was asked to stop."""
        training = self._training
        with _stop_signals() as signals, self._display:
            for report in training.run():
                self._files.history.append(report)
                if group.rank == 0:
                    self._display.show(self._files.history, training)
                    if report.validation_loss is not None:
                        self._save()
                    if self._sample_every and report.step % self._sample_every == 0:
                        self._display.sample(self._sample(training.learned, 240))
                if training.out_of_patience:
                    return True
                if group.any(bool(signals)):
                    break
        return training.step == training.settings.steps

    def _save(self) -> None:
        """Save the run, and the model if it is the best so far.

        A full disk does not end the run: the user is told, and the next save tries again.
        """
        training = self._training
        try:
            if training.best_step == training.step:
                self._save_model(self._files.out, training.learned)
            facts = {"recipe": self._recipe.to_dict(), "text_sha256": self._data.sha256}
            self._files.save(training, facts)
            self._save_error = None
        except UserError as error:
            self._save_error = error
            training.best_loss = math.inf  # only a model that could be saved can be the best
            self._display.say(f"warning: {error}; training continues")

    def _save_model(self, directory: Path, model: GPT, **more: object) -> None:
        """Write a checkpoint. more: fields to add to its origin."""
        training = self._training
        origin = {
            "kind": "trained with python -m gpt train",
            **self._recipe.to_dict(),
            "data": self._data.path.name,
            "text_sha256": self._data.sha256,
            "step": training.step,
            "torch": torch.__version__,
            **more,
        }
        checkpoint.save(directory, model, self._data.tokenizer, dtype=_DTYPE, origin=origin)

    def _sample(self, model: GPT, n_tokens: int) -> str:
        """A text that the network writes after the first token of the training text."""
        tokenizer = self._data.tokenizer
        was_training = model.training
        model.eval()
        prompt = self._data.corpus.train[:1].tolist()
        sampling = Sampling(temperature=0.8, seed=1)
        limits = Limits(n_tokens, slide=True)
        steps = generate(Context(model, tokenizer), prompt, sampling, limits, top=0)
        ids = [step.token_id for step in steps]
        model.train(was_training)
        return decode(tokenizer, prompt + ids)

    def stop(self, display: Display) -> None:
        """Save an incomplete run and say how to continue it."""
        training, files = self._training, self._files
        self._save()
        if self._save_error:
            raise self._save_error
        self._save_model(files.last, training.learned)
        out = shlex.quote(str(files.out))
        display.say(
            f"stopped after {training.step} of {training.settings.steps} steps; continue with: "
            f"python -m gpt train --resume --out {out}"
        )
        display.say(f"open the model as it is now with: gpt-tui {shlex.quote(str(files.last))}")

    def finish(self, display: Display) -> None:
        """Measure the best checkpoint of a complete run and write its report."""
        training, files = self._training, self._files
        self._save_model(files.last, training.learned)
        if self._save_error:
            raise self._save_error
        best = checkpoint.load(files.out, str(training.model.wte.weight.device))
        display.say("measuring …")
        losses = measure(best.model, self._data.corpus)
        values = {name: loss.to_dict() for name, loss in losses.items()}
        self._save_model(files.out, best.model, step=training.best_step, validation=values)
        report = Report(
            title=files.out.name,
            history=files.history,
            best_step=training.best_step,
            losses=losses,
            settings={**asdict(training.settings), **training.model.config.to_dict()},
            sample=self._sample(best.model, 500),
        )
        write_report(files.directory / "report.md", report)
        draw_curves(files.directory / "curves.svg", files.history)
        files.finish()
        for name, loss in losses.items():
            display.say(
                f"validation loss, {name:8} {loss.nats_per_character:.4f} nats or "
                f"{loss.bits_per_character:.4f} bits per character"
            )
        display.say(f"wrote {files.out} (step {training.best_step}) and {files.directory}")
        display.say(f"open the model with: gpt-tui {shlex.quote(str(files.out))}")


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """A list that receives the signals to stop: Ctrl+C and SIGTERM.

    A second Ctrl+C interrupts at once.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if number in received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
