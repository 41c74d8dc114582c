"""Shows a training run: live in a terminal, as plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from gpt.sanitize import sanitize
from gpt.training import loop

_WIDTH, _HEIGHT = 72, 12


class Display:
    """Receives every step of a run. Used as a context manager. This base class shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""

    def say(self, text: str) -> None:
        """Show a sentence."""

    def show(self, history: Sequence[loop.StepReport], training: loop.Training) -> None:
        """Show the newest step, the last one of the history."""

    def sample(self, text: str) -> None:
        """Show a text that the network wrote."""


class Lines(Display):
    """Prints a line for each measurement, for a file or a pipe."""

    def say(self, text: str) -> None:
        """Show a sentence."""
        print(sanitize(text), flush=True)

    def show(self, history: Sequence[loop.StepReport], training: loop.Training) -> None:
        """Print a line if the validation loss was measured after this step."""
        if history[-1].validation_loss is not None:
            self.say(
                f"step {history[-1].step}/{training.settings.steps} {facts(history, training)}"
            )

    def sample(self, text: str) -> None:
        """Print a text, indented so that it does not look like a line of the program."""
        for line in text.splitlines():
            self.say(f"    {line}")


class Screen(Display):
    """Shows a progress bar, the numbers, the curves and the newest sample, updated in place."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._bar = Progress(
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task = self._bar.add_task("", total=total)
        self._numbers, self._curves, self._sample = Text(), Text(), Text()
        self._curves_drawn_at = 0.0
        self._live = Live(self._view(), console=console, refresh_per_second=8)
        self._terminal = ExitStack()

    def __enter__(self) -> Self:
        self._terminal.enter_context(_without_echo())
        self._terminal.enter_context(self._live)
        return self

    def __exit__(self, *_: object) -> None:
        self._terminal.close()

    def say(self, text: str) -> None:
        """Print a sentence above the rest."""
        self._console.print(sanitize(text), markup=False, highlight=False, soft_wrap=True)

    def show(self, history: Sequence[loop.StepReport], training: loop.Training) -> None:
        """Update the numbers, and twice a second the curves, which take some milliseconds."""
        now = history[-1]
        self._bar.update(self._task, completed=now.step, description=f"step {now.step}")
        self._numbers = Text(facts(history, training))
        if time.monotonic() - self._curves_drawn_at > 0.5 or now.step == training.settings.steps:
            width = min(_WIDTH, self._console.width - 2)
            self._curves = Text.from_ansi(curves(history, width, _HEIGHT))
            self._curves_drawn_at = time.monotonic()
        self._live.update(self._view())

    def sample(self, text: str) -> None:
        """Replace the previous sample."""
        lines = sanitize(text).splitlines()[:6]
        self._sample = Text("\n".join(lines), style="italic", no_wrap=True, overflow="ellipsis")
        self._live.update(self._view())

    def _view(self) -> RenderableType:
        parts = [part for part in (self._numbers, self._curves, self._sample) if part]
        return Group(self._bar, *(Padding(part, (0, 0, 0, 1)) for part in parts))


@contextmanager
def _without_echo() -> Iterator[None]:
    """Do not echo keys: the ^C of Ctrl+C would move the cursor and break the live display."""
    try:
        import termios
    except ImportError:  # Windows
        yield
        return
    try:
        before = termios.tcgetattr(sys.stdin)
    except (OSError, ValueError, termios.error):  # not a terminal
        yield
        return
    quiet = [*before]
    quiet[3] &= ~termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)


def facts(history: Sequence[loop.StepReport], training: loop.Training) -> str:
    """The numbers of the newest step in one line."""
    now, best = history[-1], training.best_loss
    measured = next((p for p in reversed(history) if p.validation_loss is not None), None)
    parts = [f"loss {now.loss:.3f}"]
    if measured:
        parts.append(f"validation {measured.validation_loss:.4f}")
        parts.append(f"best {best:.4f} at step {training.best_step}")
    return "  ".join([*parts, f"{now.tokens_per_second:,.0f} tokens/s"])


def curves(history: Sequence[loop.StepReport], width: int, height: int) -> str:
    """Training and validation loss over the steps, drawn with braille dots."""
    import plotext

    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(width, height)
    every = max(1, len(history) // 400)
    shown = history[::every]
    plotext.plot(
        [p.step for p in shown], [p.loss for p in shown], label="training", marker="braille"
    )
    measured = [(p.step, p.validation_loss) for p in history if p.validation_loss is not None]
    if measured:
        steps, losses = zip(*measured, strict=True)
        plotext.plot(steps, losses, label="validation", marker="dot")
    first, last = shown[0].step, shown[-1].step
    plotext.xticks(sorted({first + (last - first) * i // 4 for i in range(5)}))
    return str(plotext.build())
