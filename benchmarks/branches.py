"""Measure how fast several branches are drawn at once on a CPU; prints JSON.

    .venv/bin/python -m benchmarks.branches [--rounds 5] [--threads 2] [--prompt 64]

Random weights of GPT-2 124M in each dtype. One branch alone, and 2, 4, 8 and 16 at once, with
compiled code and without, take turns in every round. Figures are medians of all branches' tokens
per second, with the full read-out of every token; the prompt is read before. `parts` are
milliseconds of one step of 8 branches: the network, the distributions, drawing, and the read-out.
--processor-time measures the time of one thread, on a machine that is not idle.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.convert import make
from benchmarks.rounds import cpu, in_turn
from gpt import checkpoint
from gpt.context import Context, Continuations
from gpt.draw import choose
from gpt.fast.branches import Branch, branches
from gpt.fast.cpu_build import CpuBuild
from gpt.generate import generate
from gpt.limits import Limits
from gpt.prediction import Prediction, read_out
from gpt.settings import Sampling
from gpt.weights.products import packed_is_faster

DRAWN = 32
AT_ONCE = (2, 4, 8, 16)
CLOCK: Callable[[], float] = time.perf_counter
PARTS = ("network", "distribution", "draw", "read-out")
SAMPLING = Sampling(temperature=0.8, top_k=50)


def tokens_per_second(context: Context, ids: list[int], n: int) -> float:
    """Tokens of all branches in a second, after the prompt and the first token of each."""
    limits = Limits(DRAWN)
    context.read(ids)
    context.truncate(len(ids))  # or the same text would only be looked up
    if n == 1:
        steps = (step for step in generate(context, ids, SAMPLING, limits))
    else:
        wanted = [Branch(SAMPLING.branch(i)) for i in range(n)]
        steps = (step for _, step in branches(context, ids, wanted, limits))
    begun, count = 0.0, -n
    for _ in steps:
        count += 1
        if count == 0:
            begun = CLOCK()
    return count / (CLOCK() - begun)


@torch.inference_mode()
def parts(context: Context, ids: list[int], n: int = 8) -> dict[str, float]:
    """Milliseconds of each part of a step, the median of several steps."""
    context.read(ids)
    tree, rows = Continuations(context, len(ids)), [0] * n
    taken: dict[str, list[float]] = {name: [] for name in PARTS}
    for step in range(12):
        new = [[(31 * step + 17 * i) % context.config.vocab_size] for i in range(n)]
        times = [CLOCK()]
        states, rows = tree.read(rows, new), list(range(n))
        times.append(CLOCK())
        prediction = context.predict(*(each[-1] for each in states))
        times.append(CLOCK())
        for i in rows:
            own = Prediction(*(each[i : i + 1] for each in prediction))
            compiled = context.step.race if context.step else None
            choose(own, SAMPLING.branch(i), ids, step, compiled)
        times.append(CLOCK())
        read_out(prediction, [5] * n, 10)
        times.append(CLOCK())
        for each, begun, ended in zip(taken.values(), times, times[1:], strict=False):
            each.append(1000 * (ended - begun))
    return {name: round(statistics.median(each[2:]), 2) for name, each in taken.items()}


def measured(directory: Path, dtype: str, ids: list[int], rounds: int) -> dict[str, Any]:
    """Everything about one dtype; "int8 packed" is int8 as it is without a compiler."""
    is_packed = dtype == "int8 packed"
    name = dtype.partition(" ")[0]
    loaded = checkpoint.load(directory, "cpu", name, packed=is_packed)
    contexts = {"eager": loaded.new_context()}
    if not is_packed:
        compiled = loaded.new_context()
        build = CpuBuild(compiled, name)
        build.start(build=True)
        build.wait()
        build.want_branches()
        build.wait()
        if build.is_installed:
            contexts["compiled"] = compiled
    measures: dict[str, Callable[[], float]] = {
        f"{n} at once, {kind}": partial(tokens_per_second, context, ids, n)
        for kind, context in contexts.items()
        for n in (1, *AT_ONCE)
    }
    steps = {kind: parts(context, ids) for kind, context in contexts.items()}
    return {"tokens_per_second": in_turn(measures, rounds), "parts": steps}


def main() -> None:
    """Measure everything and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16", "int8"])
    parser.add_argument("--processor-time", action="store_true")
    args = parser.parse_args()
    if args.processor_time:
        global CLOCK
        CLOCK, args.threads = time.thread_time, 1
    torch.set_num_threads(args.threads)
    dtypes = [*args.dtypes, *(["int8 packed"] if packed_is_faster() else [])]
    with tempfile.TemporaryDirectory() as work:
        os.environ["GPT_TUI_HOME"] = work
        from convert.write import convert

        source = Path(work) / "theirs"
        make(source, {"n_embd": 768, "n_head": 12, "n_layer": args.layers}, sharded=False)
        directory = convert(str(source), name="branches", verify=False).directory
        ids = [i * 7919 % 50257 for i in range(args.prompt)]
        result = {
            "machine": f"{cpu()}, {os.cpu_count()} cores",
            "torch": torch.__version__,
            "threads": args.threads,
            "clock": CLOCK.__name__,
            "prompt": args.prompt,
            **{dtype: measured(directory, dtype, ids, args.rounds) for dtype in dtypes},
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
