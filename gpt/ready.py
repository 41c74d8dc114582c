"""A model made ready to run: read, on its device, with compiled code where there is some."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpt import checkpoint, device, models
from gpt.checkpoint import Checkpoint
from gpt.compiled import Compilation
from gpt.generate import Context


@dataclass
class Ready:
    """A model and how it runs."""

    checkpoint: Checkpoint
    context: Context
    directory: Path
    device: str
    dtype: str
    threads: int | None
    """What was asked for; None for as many as suit the model."""
    seconds: float
    """What reading it took."""
    compilation: Compilation | None = None
    """None where the device needs none."""
    notice: str = ""
    """Why it does not run where it should."""

    def use_threads(self) -> int:
        """Let torch use as many threads as this model should have; how many."""
        return device.use_threads(self.checkpoint.manifest.n_params, wanted=self.threads)

    def is_compiled(self) -> bool:
        """Whether compiled code draws its tokens; a build that has ended is taken up."""
        return self.compilation is not None and self.compilation.poll()

    def how(self) -> dict[str, str | bool]:
        """What a person should know of how it runs."""
        return {"device": self.device, "dtype": self.dtype, "compiled": self.is_compiled()}

    def close(self) -> None:
        """End what goes on in the background; forget this object afterwards, then `collect`."""
        if self.compilation:
            self.compilation.stop()


def make_ready(
    directory: Path,
    where: str = "auto",
    dtype: str = "auto",
    *,
    threads: int | None = None,
    build: bool = False,
    before: Callable[[], object] = lambda: None,
) -> Ready:
    """Load a checkpoint. build: begin to build machine code where it is missing.

    before: called when all that was asked for makes sense, before anything is read. A GPU that
    is out of memory or gone gives way to the CPU, with a notice. Raises UserError.
    """
    n_params = models.read_manifest(directory).n_params
    device.use_threads(n_params, wanted=threads)
    chosen, stored = device.choose(where, dtype, n_params)
    before()
    started, notice = time.perf_counter(), ""
    try:
        loaded = checkpoint.load(directory, chosen, stored)
    except Exception as error:
        if chosen == "cpu" or not device.is_lost(error):
            raise
        notice = f"{device.describe(error)}; the model runs on the CPU"
        chosen, stored = device.choose("cpu", "auto", n_params)
        loaded = checkpoint.load(directory, chosen, stored)
    seconds = time.perf_counter() - started
    compilation = Compilation(loaded.model, stored, build=build) if chosen == "cpu" else None
    gc.freeze()  # or the collector would go through all of torch while tokens are drawn
    return Ready(
        loaded,
        Context(loaded.model),
        directory,
        chosen,
        stored,
        threads,
        seconds,
        compilation,
        notice,
    )


def collect() -> None:
    """Give the memory of forgotten models back: compiled code and its model hold each other."""
    gc.unfreeze()
    gc.collect()
