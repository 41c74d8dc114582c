"""The report of a training run: curves and a page in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt.errors import UserError
from gpt.sanitize import sanitize
from gpt.training.evaluate import PROTOCOLS, Loss, Protocol
from gpt.training.loop import StepReport

_RISE = 0.01
"""Nats by which the validation loss must be above its minimum to count as risen."""
_TAIL = 20
"""The training loss at the end is the mean of one in so many steps, the last ones."""


def draw_curves(path: Path, history: Sequence[StepReport]) -> None:
    """Write an SVG of the losses over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    steps = [p.step for p in history]
    axes.plot(steps, [p.loss for p in history], linewidth=0.6, color="tab:gray", label="training")
    measured = [(p.step, p.validation_loss) for p in history if p.validation_loss is not None]
    if measured:
        axes.plot(*zip(*measured, strict=True), "o-", color="tab:blue", label="validation")
    axes.set(xlabel="step", ylabel="loss, nats per token")
    axes.legend()
    axes.grid(alpha=0.3)
    try:
        figure.savefig(path, format="svg")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


@dataclass(frozen=True)
class Report:
    """The contents of a report."""

    title: str
    history: Sequence[StepReport]
    """All steps of the run."""
    best_step: int
    """The step after which the checkpoint was saved that was kept."""
    losses: Mapping[Protocol, Loss]
    """Losses of that checkpoint."""
    settings: Mapping[str, Any]
    sample: str
    """A text that the checkpoint wrote."""


def write_report(path: Path, report: Report) -> None:
    """Write a report as a page in Markdown: losses, overfitting, a sample and settings."""
    rows = [
        f"| {name} | {loss.nats_per_character:.4f} | {loss.bits_per_character:.4f} "
        f"| {loss.bits_per_byte:.4f} | {PROTOCOLS[name]} |"
        for name, loss in report.losses.items()
    ]
    text = [
        f"# {report.title}",
        f"{report.history[-1].step} steps; the checkpoint is from step {report.best_step}.",
        "| validation loss | nats/character | bits/character | bits/byte | over |\n"
        "|---|---|---|---|---|\n" + "\n".join(rows),
        "![loss over steps](curves.svg)",
        "## Overfitting",
        overfitting(report.history),
        "## A sample",
        "\n".join("    " + line for line in sanitize(report.sample).splitlines()),
        "## Settings",
        "\n".join(f"- {name}: {value}" for name, value in report.settings.items()),
    ]
    try:
        path.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def overfitting(history: Sequence[StepReport]) -> str:
    """What the losses say about overfitting, in words and numbers."""
    measured = [(p.step, p.validation_loss) for p in history if p.validation_loss is not None]
    if not measured:
        return "The validation loss was never measured."
    best_step, best = min(measured, key=lambda pair: pair[1])
    last_step, last = measured[-1]
    tail = [p.loss for p in history if p.step <= last_step][-max(1, last_step // _TAIL) :]
    training = sum(tail) / len(tail)
    gap = (
        f"At the end the training loss is {training:.3f} (mean of the last {len(tail)} steps) and "
        f"the validation loss {last:.3f} nats per token, {abs(last - training):.3f} "
        f"{'above' if last > training else 'below'} it."
    )
    if last > best + _RISE:
        return (
            f"The validation loss was lowest at step {best_step}, {best:.3f}, and rose after that: "
            "from there on, the network memorized its text instead of learning what such texts "
            f"have in common. {gap}"
        )
    if last > training + 0.1:
        return (
            f"{gap} The network predicts its training text better than a new one, but the "
            "validation loss had not begun to rise."
        )
    return f"{gap} The network did not overfit: a larger one or more steps should do better."
