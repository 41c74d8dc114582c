"""The files of a training run, in a directory next to its checkpoint.

OUT/                  the checkpoint with the lowest validation loss so far
OUT.run/state.pt      everything needed to continue; removed at the end of the run
OUT.run/last/         the latest weights, as a checkpoint
OUT.run/metrics.csv   one row per step
OUT.run/report.md     written at the end, with curves.svg
"""

from __future__ import annotations

import csv
import os
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from gpt import models
from gpt.errors import UserError
from gpt.training.loop import StepReport, Training

_COLUMNS = [field.name for field in fields(StepReport)]


class RunFiles:
    """The directory OUT.run."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.directory = out.with_name(out.name + ".run")
        self.last = self.directory / models.LATEST
        self.state = self.directory / "state.pt"
        self.metrics = self.directory / "metrics.csv"
        self.history: list[StepReport] = []
        """All steps of the run so far."""
        self._n_written = 0

    def begin(self) -> None:
        """Remove the state and the metrics of an older run."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self.state.unlink(missing_ok=True)
            with self.metrics.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(_COLUMNS)
        except OSError as error:
            raise UserError(f"cannot write {self.directory}: {error.strerror}") from error

    def save(self, training: Training, facts: dict[str, Any]) -> None:
        """Write everything needed to continue from here. If that fails, the older state stays.

        facts: plain values that describe the run.
        """
        draft = self.state.with_suffix(".draft")
        try:
            self._write_metrics()
            with draft.open("wb") as file:
                torch.save({"facts": facts, "training": training.state()}, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.state)
        except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            raise UserError(f"cannot write {self.state}: {reason}") from error

    def load(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the facts and the training state of an interrupted run, and read its history."""
        if not self.state.exists():
            raise UserError(f"there is no interrupted run in {self.directory}; leave out --resume")
        try:
            saved = torch.load(self.state, map_location="cpu", weights_only=True)
            facts, state = dict(saved["facts"]), dict(saved["training"])
            step = int(state["step"])
        except Exception as error:  # a damaged file may raise anything
            reason = str(error).partition("\n")[0][:200]
            raise UserError(
                f"{self.state} is damaged ({reason}); --restart starts again"
            ) from error
        self.history = _read_metrics(self.metrics, step)
        self._n_written = 0
        return facts, state

    def finish(self) -> None:
        """Write the last metrics and remove the state: the run is complete."""
        try:
            self._write_metrics()
            self.state.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {self.directory}: {error.strerror}") from error

    def _write_metrics(self) -> None:
        """Append new rows. After `load`, write all rows again: some may be from lost steps."""
        mode = "a" if self._n_written else "w"
        with self.metrics.open(mode, newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _COLUMNS)
            if not self._n_written:
                writer.writeheader()
            writer.writerows(asdict(progress) for progress in self.history[self._n_written :])
        self._n_written = len(self.history)


def _read_metrics(path: Path, last: int) -> list[StepReport]:
    """The rows up to a step; fewer if the file is damaged, because they are only displayed."""
    found: list[StepReport] = []
    with suppress(OSError, ValueError, TypeError, KeyError), path.open(newline="") as file:
        for row in csv.DictReader(file):
            if int(row["step"]) > last:
                break
            validation = row["validation_loss"]
            found.append(
                StepReport(
                    step=int(row["step"]),
                    loss=float(row["loss"]),
                    validation_loss=float(validation) if validation else None,
                    lr=float(row["lr"]),
                    tokens_per_second=float(row["tokens_per_second"]),
                )
            )
    return found
