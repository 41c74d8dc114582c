"""A model made ready to run: read, on its device, with compiled code where there is some."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gpt import checkpoint, device, models
from gpt.background import Build
from gpt.checkpoint import Checkpoint
from gpt.compiled import Compilation, is_coming
from gpt.context import Context
from gpt.cuda import Graphs
from gpt.errors import UserError
from gpt.fused import Fusion
from gpt.quantize import packing_pays

COMPILE = ("off", "auto", "on")
"""Whether to build code: never, in the background on a CPU, or on a GPU as well."""


@dataclass
class Ready:
    """A model and how it runs."""

    checkpoint: Checkpoint
    context: Context
    directory: Path
    device: str
    dtype: str
    threads: int
    """On how many it runs on the CPU."""
    asked: int | None
    """How many were asked for; None for as many as suit the model."""
    spare: int
    """Cores that are left to another program where nothing was asked for."""
    seconds: float
    """What reading it took."""
    build: Build | None = None
    """None where there is nothing to build for the device."""
    notice: str = ""
    """Why it does not run where it should."""

    def use_threads(self) -> int:
        """Let torch use as many threads as this model should have; how many."""
        return device.use_threads(self.checkpoint.manifest.n_params, wanted=self.threads)

    def is_compiled(self) -> bool:
        """Whether compiled code draws its tokens; a build that has ended is taken up."""
        return self.build is not None and self.build.poll()

    def code(self) -> str:
        """What draws tokens, and why it is no CUDA graph where one would do."""
        compiled = "compiled" if self.is_compiled() else "eager"
        if graphs := self.context.graphs:
            return f"eager ({graphs.reason})" if graphs.reason else f"CUDA graph, {compiled}"
        return compiled

    def how(self) -> dict[str, str | bool]:
        """What a person should know of how it runs."""
        return {"device": self.device, "dtype": self.dtype, "compiled": self.is_compiled()}

    def close(self) -> None:
        """End what goes on in the background."""
        if self.build:
            self.build.stop()


def make_ready(
    directory: Path,
    where: str = "auto",
    dtype: str = "auto",
    *,
    threads: int | None = None,
    spare: int = 0,
    compile: str = "off",
    before: Callable[[], object] = lambda: None,
) -> Ready:
    """Load a checkpoint. compile: one of COMPILE.

    before: called when all that was asked for makes sense, before anything is read. A GPU that
    is out of memory or gone, or on a Mac wrong, gives way to the CPU, with a notice. Raises
    UserError.
    """
    if compile not in COMPILE:
        raise UserError(f"compile is one of {', '.join(COMPILE)}, not {compile!r}")
    n_params = models.read_manifest(directory).n_params
    used = device.use_threads(n_params, wanted=threads, spare=spare)
    chosen, stored = device.choose(where, dtype, n_params)
    before()
    started, notice = time.perf_counter(), ""
    builds = compile != "off"
    try:
        loaded = _load(directory, chosen, stored, builds=builds)
        if (where, chosen) == ("auto", "mps"):  # wrong in some versions of torch and macOS
            exact = checkpoint.load(directory, "cpu", "float32").model
            device.check_agrees(loaded.model, exact, stored)
            del exact
    except Exception as error:
        if chosen == "cpu" or not device.is_lost(error):
            raise
        notice = f"{device.describe(error)}; the model runs on the CPU"
        chosen, stored = device.choose("cpu", "auto", n_params)
        loaded = _load(directory, chosen, stored, builds=builds)
    seconds = time.perf_counter() - started
    context = Context(loaded.model)
    build: Build | None = None
    if chosen == "cpu":
        used = threads or device.measure_threads(partial(_step, context), n_params, spare=spare)
        build = Compilation(context, stored, build=builds)
    elif chosen.startswith("cuda"):
        context.graphs = Graphs(context)
        build = Fusion(context, build=compile == "on")
    gc.freeze()  # or the collector would go through all of torch while tokens are drawn
    return Ready(
        loaded,
        context,
        directory,
        chosen,
        stored,
        used,
        threads,
        spare,
        seconds,
        build,
        notice or (build.notice if build else ""),
    )


def _load(directory: Path, where: str, dtype: str, *, builds: bool) -> Checkpoint:
    """Read a checkpoint; large int8 weights packed, where no compiled code will read them."""
    packed = (
        (where, dtype) == ("cpu", "int8")
        and models.read_manifest(directory).n_params >= device.SMALL
        and not is_coming(checkpoint.read_config(directory), dtype, build=builds)
        and packing_pays()
    )
    return checkpoint.load(directory, where, dtype, packed=packed)


@torch.inference_mode()
def _step(context: Context) -> None:
    """One token through the network."""
    context.model.hidden(torch.zeros(1, 1, dtype=torch.long))


_MISSING = {
    False: "no model is loaded; send a load request first",
    True: "no second model is loaded; send a load request with beside",
}


class Pair:
    """The model, under False, and the one that stands beside it, under True."""

    def __init__(self) -> None:
        self._ready: dict[bool, Ready] = {}

    def get(self, beside: bool) -> Ready:
        """One of the two, its threads set. Raises UserError where it is not there."""
        if beside not in self._ready:
            raise UserError(_MISSING[beside])
        self._ready[beside].use_threads()
        return self._ready[beside]

    def load(self, beside: bool, directory: Path, **how: Any) -> Ready:
        """Put a model in the place of one of the two, which goes first: more may not fit.

        how: as for `make_ready`. Where it raises UserError for `how`, nothing has changed.
        """
        forget = partial(self.forget, beside)
        self._ready[beside] = make_ready(directory, **how, before=forget)
        return self._ready[beside]

    def forget(self, beside: bool) -> None:
        """Give the memory of one of the two back."""
        if ready := self._ready.pop(beside, None):
            ready.close()
            del ready
            gc.unfreeze()
            gc.collect()  # compiled code and its model hold each other

    def leave_gpu(self) -> bool:
        """Load on the CPU what is on a GPU; whether there was anything."""
        lost = [beside for beside, ready in self._ready.items() if ready.device != "cpu"]
        for beside in lost:
            old = self._ready[beside]
            how = {"threads": old.asked, "spare": old.spare}
            self.load(beside, old.directory, where="cpu", **how)
        return bool(lost)

    def close(self) -> None:
        """End what goes on in the background."""
        for ready in self._ready.values():
            ready.close()
