"""Measure decoding on a CUDA GPU, ours and transformers'; prints JSON.

    .venv/bin/python -m benchmarks.gpu [--rounds 5] [--models gpt2 gpt2-xl shakespeare]
                                       [--programs NAME…] [--profile]

Weights are random (those of Shakespeare are the shipped ones), in bfloat16. Each program draws 256
tokens greedily after a prompt of 64. All programs run in one process and take turns in every
round. Figures are medians of tokens per second. Ours computes its full read-out with every token.
The limit is the speed if only the weights were read, at the memory bandwidth measured in between.
--profile adds where the GPU's time goes: microseconds per token of each kernel. `--device cpu` only
shows that the script works. On SIGTERM it stops measuring and prints what it has.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.convert import make
from benchmarks.other_programs import Program
from benchmarks.rounds import medians
from benchmarks.torch_programs import our_program, transformers_gpt2, transformers_program
from gpt import checkpoint, models
from gpt.checkpoint import Checkpoint
from gpt.commands.bench import bytes_per_token, seconds_to_read
from gpt.fast.build import cache_directory
from gpt.fast.cuda_compile import CudaBuild
from gpt.fast.cuda_graph import Graphs
from tests.peers import as_llama

PROMPT, DRAWN, LONG = 64, 256, 512
PROGRAMS = (
    "ours eager",
    "ours graph",
    "ours compiled",
    "transformers",
    "transformers static",
)
STOPPED = threading.Event()
SIZES = {
    "gpt2": {"n_embd": 768, "n_head": 12, "n_layer": 12},
    "gpt2-xl": {"n_embd": 1600, "n_head": 25, "n_layer": 48},
}


def ours(loaded: Checkpoint, *, use_graphs: bool = True, compile: bool = False) -> Program:
    """Our generate: eager, with graphs, or with graphs of compiled code."""
    context = loaded.new_context()
    graphs = Graphs(context)
    context.graphs = graphs if use_graphs else None
    if compile:
        build = CudaBuild(graphs)
        build.start(build=True)
        build.wait()
    run = our_program(loaded, context)

    def checked(ids: list[int], n: int) -> list[int]:
        drawn = run(ids, n)
        if use_graphs and (graphs.reason or compile != graphs.is_compiled):
            notes = [path.read_text() for path in cache_directory().glob("fused-*.failed.txt")]
            raise RuntimeError(" ".join([graphs.reason, graphs.why_not_compiled, *notes]))
        return drawn

    return checked


def programs(name: str, work: Path, device: str) -> tuple[Checkpoint, dict[str, Any]]:
    """Our model by its name, and functions that create each program."""
    if name == models.EMBEDDED:
        directory = models.find(models.EMBEDDED)
    else:
        from convert.write import convert

        directory = work / "models" / name
        if not directory.exists():
            (work / name).mkdir()
            make(work / name / "theirs", SIZES[name], sharded=False)
            convert(str(work / name / "theirs"), name=name, verify=False)
    loaded = checkpoint.load(directory, device, "bfloat16")

    def theirs(compiled: bool) -> Program:
        if name == models.EMBEDDED:
            model = as_llama(checkpoint.load(directory).model).bfloat16()
        else:
            model = transformers_gpt2(work / name, torch.bfloat16)
        model = model.to(device)  # type: ignore[arg-type]
        if compiled:  # with a static cache, `generate` itself compiles the step for one token
            model.generation_config.cache_implementation = "static"
        return transformers_program(model)

    return loaded, {
        "ours eager": lambda: ours(loaded, use_graphs=False),
        "ours graph": lambda: ours(loaded),
        "ours compiled": lambda: ours(loaded, compile=True),
        "transformers": lambda: theirs(False),
        "transformers static": lambda: theirs(True),
    }


def compare(
    name: str, work: Path, device: str, rounds: int, wanted: Sequence[str], profiled: bool
) -> dict[str, Any]:
    """Medians for one model and some programs. Programs that fail are listed with the reason."""
    loaded, makers = programs(name, work, device)
    makers = {key: maker for key, maker in makers.items() if key in wanted}
    ids = [i * 7919 % loaded.model.config.vocab_size for i in range(LONG)]
    ids = ids[: loaded.model.config.block_size - 1]
    n_drawn = min(DRAWN, loaded.model.config.block_size - PROMPT)
    running: dict[str, Program] = {}
    skipped: dict[str, str] = {}

    def attempt(key: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception as error:  # a program that cannot run is reported and skipped
            running.pop(key, None)
            skipped[key] = f"{type(error).__name__}: {error}"[-600:]
            return None

    memory_used = {"our weights": round(allocated() / 1e6)}
    for key, maker in makers.items():
        if STOPPED.is_set():
            break
        before, started = allocated(), time.perf_counter()
        if program := attempt(key, maker):
            running[key] = program
            attempt(key, lambda program=program: program(ids[:PROMPT], n_drawn))  # type: ignore[misc]
        memory_used[key] = round((allocated() - before) / 1e6)
        print(f"{name}: {key}: {time.perf_counter() - started:.1f} s to start", file=sys.stderr)
    decode: dict[str, list[float]] = {key: [] for key in running}
    prefill: dict[str, list[float]] = {key: [] for key in running}
    memory = torch.ones(1 << (29 if device != "cpu" else 26), device=device)
    bandwidth = []
    for number in range(rounds + 1):
        print(f"{name}: round {number} of {rounds}", file=sys.stderr)
        for key, program in list(running.items()):
            if STOPPED.is_set():
                break
            taken = attempt(key, lambda program=program: times(program, ids, n_drawn, device))  # type: ignore[misc]
            if taken and number:  # the first round only warms up
                decode[key].append(taken[0])
                prefill[key].append(taken[1])
            bandwidth.append(memory.nbytes / min(seconds_to_read(memory) for _ in range(3)))
    if not bandwidth:
        return {"memory_megabytes": memory_used, "skipped": skipped}
    limit = statistics.median(bandwidth) / bytes_per_token(loaded.model)
    speeds = medians({key: values for key, values in decode.items() if values})
    kernels = {
        key: attempt(key, lambda program=program: profile(program, ids[:PROMPT]))  # type: ignore[misc]
        for key, program in list(running.items())
        if profiled and key.startswith("ours") and not STOPPED.is_set()
    }
    return {
        "decode_tokens_per_second": speeds,
        "prefill_tokens_per_second": medians({k: v for k, v in prefill.items() if v}),
        "bandwidth_gigabytes_per_second": round(statistics.median(bandwidth) / 1e9, 1),
        "limit_tokens_per_second": round(limit, 1),
        "share_of_limit": {key: round(speed / limit, 3) for key, speed in speeds.items()},
        "memory_megabytes": memory_used,
        "skipped": skipped,
        **({"kernels": kernels} if profiled else {}),
    }


def stop(*_: object) -> None:
    """Measure nothing more, and print what was measured."""
    STOPPED.set()
    raise TimeoutError("it was cut off")


def profile(program: Program, prompt: list[int], n_tokens: int = 32, n_rows: int = 25) -> Any:
    """The GPU's kernels while tokens are drawn: microseconds and calls per token, and names."""
    kinds = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as found:
        program(prompt, n_tokens)
    rows = [
        (event.self_device_time_total / n_tokens, event.count / n_tokens, event.key[:80])
        for event in found.key_averages()
        if event.self_device_time_total
    ]
    rows.sort(reverse=True)
    return {
        "microseconds": round(sum(row[0] for row in rows), 1),
        "calls": round(sum(row[1] for row in rows)),
        "rows": [(round(time, 1), round(calls, 1), name) for time, calls, name in rows[:n_rows]],
    }


def allocated() -> int:
    """Bytes that tensors use on the GPU."""
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0


def times(program: Program, ids: list[int], drawn: int, device: str) -> tuple[float, float]:
    """Tokens per second that are drawn after a prompt, without the first one, and that are read."""
    whole = seconds(lambda: program(ids[:PROMPT], drawn), device)
    first = seconds(lambda: program(ids[:PROMPT], 1), device)
    reading = seconds(lambda: program(ids, 0), device)
    return (drawn - 1) / (whole - first), len(ids) / reading


def seconds(work: Callable[[], Any], device: str) -> float:
    """How long a call takes, until the device has finished."""
    started = time.perf_counter()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    """Measure everything and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=5, help="Rounds to measure. (default: %(default)s)"
    )
    parser.add_argument(
        "--device", default="cuda", help="Device: cuda or cpu. (default: %(default)s)"
    )
    names = [*SIZES, models.EMBEDDED]
    parser.add_argument(
        "--models",
        nargs="+",
        default=names,
        choices=names,
        help="Models to measure. (default: all)",
    )
    parser.add_argument(
        "--programs",
        nargs="+",
        default=PROGRAMS,
        choices=PROGRAMS,
        help="Programs to measure. (default: all)",
    )
    parser.add_argument("--profile", action="store_true", help="Add the times of GPU kernels.")
    parser.add_argument(
        "--work",
        type=Path,
        help="Directory that keeps weights and compiled code. (default: a temporary one)",
    )
    args = parser.parse_args()
    if args.device != "cpu" and not torch.cuda.is_available():
        sys.exit("there is no usable CUDA GPU; --device cpu shows that the script works")
    gpu = torch.cuda.get_device_name() if args.device != "cpu" else "none"
    signal.signal(signal.SIGTERM, stop)
    result: dict[str, Any] = {"gpu": gpu, "torch": torch.__version__}
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        os.environ["GPT_TUI_HOME"] = str(work)
        for name in args.models:
            if STOPPED.is_set():
                break
            result[name] = compare(
                name, work, args.device, args.rounds, args.programs, args.profile
            )
            gc.collect()  # the next model needs the memory
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
