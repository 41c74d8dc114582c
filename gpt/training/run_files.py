"""The files of a training run, beside the checkpoint that it makes.

OUT/                  the checkpoint of the lowest validation loss so far
OUT.run/state.pt      what is needed to go on; gone when the run is over
OUT.run/last/         the last weights, as a checkpoint
OUT.run/metrics.csv   a row for every step
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

from gpt.errors import UserError
from gpt.training.loop import Progress, Training

_COLUMNS = [field.name for field in fields(Progress)]


class RunFiles:
    """The directory OUT.run."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.directory = out.with_name(out.name + ".run")
        self.last = self.directory / "last"
        self.state = self.directory / "state.pt"
        self.metrics = self.directory / "metrics.csv"
        self.history: list[Progress] = []
        """All steps of the run so far."""
        self._written = 0

    def begin(self) -> None:
        """Forget what an older run left. Raises UserError where nothing can be written here."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self.state.unlink(missing_ok=True)
            with self.metrics.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerow(_COLUMNS)
        except OSError as error:
            raise UserError(f"cannot write {self.directory}: {error.strerror}") from error

    def save(self, training: Training, facts: dict[str, Any]) -> None:
        """Write what is needed to go on from here. Where it fails, the older one stays.

        facts: plain values that say what is trained on what, and how. Raises UserError.
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
        """Facts and training state of a run that was interrupted; its history is read too.

        Raises UserError where there is none, or where it cannot be read.
        """
        if not self.state.exists():
            raise UserError(f"there is no unfinished run in {self.directory}; leave --resume out")
        try:
            saved = torch.load(self.state, map_location="cpu", weights_only=True)
            facts, state = dict(saved["facts"]), dict(saved["training"])
            step = int(state["step"])
        except Exception as error:  # a damaged file may raise anything
            reason = str(error).partition("\n")[0][:200]
            raise UserError(f"{self.state} is damaged ({reason}); --restart begins anew") from error
        self.history = _read_metrics(self.metrics, step)
        self._written = 0
        return facts, state

    def finish(self) -> None:
        """The run is over: there is nothing to go on with. Raises UserError."""
        try:
            self._write_metrics()
            self.state.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {self.directory}: {error.strerror}") from error

    def _write_metrics(self) -> None:
        """Add the new rows; after `load`, write all anew, for some may be of lost steps."""
        mode = "a" if self._written else "w"
        with self.metrics.open(mode, newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, _COLUMNS)
            if not self._written:
                writer.writeheader()
            writer.writerows(asdict(progress) for progress in self.history[self._written :])
        self._written = len(self.history)


def _read_metrics(path: Path, last: int) -> list[Progress]:
    """The rows up to a step; fewer where the file is not whole, for it is only shown."""
    found: list[Progress] = []
    with suppress(OSError, ValueError, TypeError, KeyError), path.open(newline="") as file:
        for row in csv.DictReader(file):
            if int(row["step"]) > last:
                break
            validation = row["validation_loss"]
            found.append(
                Progress(
                    step=int(row["step"]),
                    loss=float(row["loss"]),
                    validation_loss=float(validation) if validation else None,
                    lr=float(row["lr"]),
                    tokens_per_second=float(row["tokens_per_second"]),
                )
            )
    return found
