"""A model that is ready to run: read, on its device, with compiled code if there is some."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from gpt import checkpoint, device, models
from gpt.checkpoint import Checkpoint
from gpt.context import Context
from gpt.errors import UserError
from gpt.fast.build import Build
from gpt.fast.cpu_build import CpuBuild, is_code_expected
from gpt.fast.cuda_compile import CudaBuild
from gpt.fast.cuda_graph import Graphs
from gpt.models import Role
from gpt.weights.products import packed_is_faster

COMPILE = ("off", "auto", "on")
"""Whether to build code: never, in the background on a CPU, or on a GPU as well."""


@dataclass(frozen=True)
class RunOptions:
    """How a person wants a model to run."""

    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: str = "auto"
    """auto or a name of DTYPES."""
    threads: int | None = None
    """Threads on the CPU; None: what suits the model."""
    spare: int = 0
    """Cores to leave to another program if no number of threads is given."""
    compile: str = "off"
    """One of COMPILE."""


@dataclass
class LoadedModel:
    """A model and how it runs."""

    checkpoint: Checkpoint
    context: Context
    directory: Path
    options: RunOptions
    """How a person wanted it to run."""
    device: str
    dtype: str
    threads: int
    """Threads on the CPU."""
    seconds: float
    """Time that reading the files took."""
    build: Build | None = None
    """None if there is nothing to build for the device."""
    graphs: Graphs | None = None
    """CUDA graphs that draw tokens; None on other devices."""
    notice: str = ""
    """Why it does not run as it was asked to."""

    def use_threads(self) -> int:
        """Set torch's number of threads to what suits this model, and return it."""
        return device.use_threads(self.checkpoint.manifest.n_params, wanted=self.threads)

    def is_compiled(self) -> bool:
        """Whether compiled code draws the tokens; installs a build that has ended."""
        return self.build is not None and self.build.poll()

    def code(self) -> str:
        """What draws tokens, and why it is not a CUDA graph if one would do."""
        compiled = "compiled" if self.is_compiled() else "eager"
        if graphs := self.graphs:
            return f"eager ({graphs.reason})" if graphs.reason else f"CUDA graph, {compiled}"
        return compiled

    def how(self) -> dict[str, str | bool]:
        """Device, dtype and whether it is compiled, for a person."""
        return {"device": self.device, "dtype": self.dtype, "compiled": self.is_compiled()}

    def close(self) -> None:
        """End what runs in the background."""
        if self.build:
            self.build.stop()


def load_model(
    directory: Path,
    options: RunOptions = RunOptions(),
    before: Callable[[], object] = lambda: None,
) -> LoadedModel:
    """Load a checkpoint and choose how it runs.

    before: called when the options make sense, before anything is read. If a GPU is out of memory,
    gone, or (on a Mac) wrong, the model runs on the CPU, with a notice.
    """
    if options.compile not in COMPILE:
        raise UserError(f"compile is one of {', '.join(COMPILE)}, not {options.compile!r}")
    manifest = models.read_manifest(directory)
    n_params, divergence = manifest.n_params, manifest.divergence
    threads = device.use_threads(n_params, wanted=options.threads, spare=options.spare)
    where, dtype = device.choose(options.device, options.dtype, n_params, divergence)
    before()
    started, notice = time.perf_counter(), ""
    builds = options.compile != "off"
    try:
        loaded = _load(directory, where, dtype, builds=builds)
        if (options.device, where) == ("auto", "mps"):  # wrong in some versions of torch and macOS
            exact = checkpoint.load(directory, "cpu", "float32").model
            device.check_agrees(loaded.model, exact, dtype)
            del exact
    except Exception as error:
        if where == "cpu" or not device.is_lost(error):
            raise
        notice = f"{device.describe(error)}; the model runs on the CPU"
        where, dtype = device.choose("cpu", "auto", n_params, divergence)
        loaded = _load(directory, where, dtype, builds=builds)
    seconds = time.perf_counter() - started
    found = LoadedModel(
        loaded, loaded.new_context(), directory, options, where, dtype, threads, seconds
    )
    if where == "cpu" and not options.threads:
        step = partial(_step, found.context)
        found.threads = device.measure_threads(step, n_params, spare=options.spare)
    _start_build(found)
    found.notice = notice or (found.build.notice if found.build else "")
    gc.freeze()  # or the collector would go through all of torch while tokens are drawn
    return found


def _start_build(loaded: LoadedModel) -> None:
    """Install compiled code for a model, or start to build it, as its options say."""
    context, compile = loaded.context, loaded.options.compile
    if loaded.device == "cpu":
        loaded.build = CpuBuild(context, loaded.dtype)
        loaded.build.start(build=compile != "off")
    elif loaded.device.startswith("cuda"):
        context.graphs = loaded.graphs = Graphs(context)
        loaded.build = CudaBuild(loaded.graphs)
        loaded.build.start(build=compile == "on")


def _load(directory: Path, where: str, dtype: str, *, builds: bool) -> Checkpoint:
    """Read a checkpoint; large int8 weights packed, if no compiled code will read them."""
    packed = (
        (where, dtype) == ("cpu", "int8")
        and models.read_manifest(directory).n_params >= device.SMALL_PASS
        and not is_code_expected(models.read_config(directory), dtype, build=builds)
        and packed_is_faster()
    )
    return checkpoint.load(directory, where, dtype, packed=packed)


@torch.inference_mode()
def _step(context: Context) -> None:
    """One token through the network."""
    context.model.hidden(torch.zeros(1, 1, dtype=torch.long))


_MISSING: dict[Role, str] = {
    "first": "no model is loaded; send a load request first",
    "second": "no second model is loaded; send a load request with second",
}


class LoadedModels:
    """The model, and a second one to compare it with."""

    def __init__(self) -> None:
        self._models: dict[Role, LoadedModel] = {}

    def get(self, role: Role) -> LoadedModel:
        """One of the two. Raises UserError if it is not loaded."""
        if role not in self._models:
            raise UserError(_MISSING[role])
        return self._models[role]

    def load(self, role: Role, directory: Path, options: RunOptions) -> LoadedModel:
        """Load a model in place of one of the two, which is freed before: both may not fit.

        If the options make no sense, UserError is raised and nothing has changed.
        """
        self._models[role] = load_model(directory, options, before=partial(self.forget, role))
        return self._models[role]

    def forget(self, role: Role) -> None:
        """Free the memory of one of the two."""
        if loaded := self._models.pop(role, None):
            loaded.close()
            del loaded
            gc.unfreeze()
            gc.collect()  # compiled code and its model hold each other

    def leave_gpu(self) -> bool:
        """Load on the CPU whatever is on a GPU; whether there was anything."""
        lost = [role for role, loaded in self._models.items() if loaded.device != "cpu"]
        for role in lost:
            old = self._models[role]
            self.load(role, old.directory, replace(old.options, device="cpu", dtype="auto"))
        return bool(lost)

    def close(self) -> None:
        """End what runs in the background."""
        for loaded in self._models.values():
            loaded.close()
