"""Measure how long a look into a network takes: GPT-2 124M with random weights; prints JSON.

    .venv/bin/python -m benchmarks.inside [--dtype float32] [--threads 2] [--rounds 5]

100 random tokens, which the model has read before, and a patch grid of 30. "cpu" is the processor
time of all threads together; on a machine that does other work it is the figure to trust.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from itertools import count
from pathlib import Path

import torch

from benchmarks.convert import SIZES, make
from benchmarks.rounds import cpu
from convert.__main__ import main as convert
from gpt import checkpoint, models
from gpt.context import Context
from gpt.interpret.grid import lens_grid
from gpt.interpret.heads import heads, work
from gpt.interpret.intervene import effect
from gpt.interpret.lens import layers
from gpt.interpret.logit_parts import logit_parts
from gpt.interpret.mattered import mattered
from gpt.interpret.patch import patch_grid
from gpt.interpret.words import neighbours
from gpt.interventions import Knockout


def looks(context: Context) -> dict[str, Callable[[], object]]:
    """Name → one look at a text of random tokens."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(context.config.vocab_size, (100,), generator=generator).tolist()
    other, numbers = [*ids[:3], 7, *ids[4:30]], count()
    context.read(ids)

    def knock_out() -> object:
        layer = 1 + next(numbers) % context.config.n_layer  # never the one before
        return effect(context, ids, [Knockout(part="head", layer=layer, head=3)])

    return {
        "layers": lambda: layers(context, ids, 5),
        "lens": lambda: lens_grid(context, ids),
        "heads": lambda: heads(context, ids),
        "heads without scores": lambda: heads(context, ids, has_scores=False),
        "work": lambda: work(context, ids, 5, 5),
        "parts": lambda: logit_parts(context, ids, 5, 7),
        "knock-out": knock_out,
        "cut": lambda: mattered(context, ids, 5, measures=["cut"]),
        "gradient": lambda: mattered(context, ids, 5, measures=["gradient"]),
        "neighbours": lambda: neighbours(context, [5]),
        "patch 30": lambda: patch_grid(context, ids[:30], other, 5, 7),
    }


def seconds(look: Callable[[], object], rounds: int) -> dict[str, float]:
    """Medians of the wall time and of the processor time, after a warm-up."""
    taken, used = [], []
    for _ in range(rounds + 1):
        begun, cpu_begun = time.perf_counter(), time.process_time()
        look()
        taken.append(time.perf_counter() - begun)
        used.append(time.process_time() - cpu_begun)
    return {
        "seconds": round(statistics.median(taken[1:]), 3),
        "cpu": round(statistics.median(used[1:]), 3),
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dtype", choices=models.MEMORY_DTYPES, default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as home:
        source, directory = Path(home) / "source", Path(home) / "gpt2"
        make(source, SIZES["small"], sharded=False)
        with redirect_stdout(sys.stderr):
            convert([str(source), "--out", str(directory), "--no-verify"])
        context = checkpoint.load(directory, dtype=args.dtype).new_context()
        found = {name: seconds(look, args.rounds) for name, look in looks(context).items()}
    print(json.dumps({"processor": cpu(), "dtype": args.dtype, "threads": args.threads, **found}))


if __name__ == "__main__":
    main()
