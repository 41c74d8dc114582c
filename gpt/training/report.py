"""What is left of a training run for its reader: the curves and a page about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpt.errors import UserError
from gpt.sanitize import sanitize
from gpt.training.evaluate import PROTOCOLS, Loss, Protocol
from gpt.training.loop import Progress

_RISE = 0.01
"""Nats by which a validation loss has to rise before it is called that."""


def draw_curves(path: Path, history: Sequence[Progress]) -> None:
    """An SVG of the losses over the steps. Raises UserError where it cannot be written."""
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


def write_report(
    path: Path,
    *,
    title: str,
    history: Sequence[Progress],
    losses: Mapping[Protocol, Loss],
    best_step: int,
    settings: Mapping[str, Any],
    sample: str,
) -> None:
    """A page in Markdown: settings, losses, how it overfitted, and a sample.

    losses: of the checkpoint that was kept. Raises UserError where it cannot be written.
    """
    rows = [
        f"| {name} | {loss.nats_per_character:.4f} | {loss.bits_per_character:.4f} "
        f"| {loss.bits_per_byte:.4f} | {PROTOCOLS[name]} |"
        for name, loss in losses.items()
    ]
    text = [
        f"# {title}",
        f"{history[-1].step} steps; the checkpoint is that of step {best_step}.",
        "| validation loss | nats/character | bits/character | bits/byte | over |\n"
        "|---|---|---|---|---|\n" + "\n".join(rows),
        "![loss over steps](curves.svg)",
        "## Overfitting",
        overfitting(history),
        "## A sample",
        "\n".join("    " + line for line in sanitize(sample).splitlines()),
        "## Settings",
        "\n".join(f"- {name}: {value}" for name, value in settings.items()),
    ]
    try:
        path.write_text("\n\n".join(text) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def overfitting(history: Sequence[Progress]) -> str:
    """What the curves say of learning by heart, in words and numbers."""
    measured = [(p.step, p.validation_loss) for p in history if p.validation_loss is not None]
    if not measured:
        return "The validation loss was never measured."
    best_step, best = min(measured, key=lambda pair: pair[1])
    last_step, last = measured[-1]
    since = measured[-2][0] if len(measured) > 1 else 0
    tail = [p.loss for p in history if since < p.step <= last_step]
    training = sum(tail) / len(tail)
    gap = (
        f"At the end the training loss is {training:.3f} (mean of the last {len(tail)} steps) and "
        f"the validation loss {last:.3f} nats per token, {abs(last - training):.3f} "
        f"{'above' if last > training else 'below'} it."
    )
    if last > best + _RISE:
        return (
            f"The validation loss was lowest at step {best_step}, {best:.3f}, and rose after it: "
            "from there on the network learned its text by heart rather than how such texts go. "
            f"{gap}"
        )
    if last > training + 0.1:
        return (
            f"{gap} The network knows its own text better than a new one, but the validation loss "
            "had not begun to rise."
        )
    return f"{gap} It did not overfit: a larger network or more steps should do better."
