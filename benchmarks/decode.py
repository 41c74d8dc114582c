"""Measure decoding, prefill and cold start on a CPU, ours and other programs'; prints JSON.

    .venv/bin/python -m benchmarks.decode [--rounds 5] [--threads 2] [--size 124m]
        [--programs "ours int8 compiled" "llama.cpp Q8_0" …]

All programs run the same random weights of a GPT-2 and draw the same number of tokens after the
same prompt, greedily. They take turns in every round, each in its own process. Figures are medians.
Ours computes its full read-out with every token. Between the programs, the bandwidth of memory is
measured: it limits the speed at that time. Programs that are not installed are listed under
"skipped"; `pip install '.[bench,servers]'` installs them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.convert import make
from benchmarks.other_programs import Program, ctranslate2_program, llama_cpp_program
from benchmarks.rounds import cpu
from benchmarks.torch_programs import our_cpu_program, transformers_gpt2, transformers_program
from benchmarks.workers import serve, speeds
from gpt import checkpoint, models
from gpt.commands.bench import bytes_per_token
from gpt.loaded import RunOptions, load_model
from tests.peers import as_llama

PROMPT, DRAWN, LONG = 64, 128, 512
SIZES = {
    "124m": {"n_layer": 12, "n_embd": 768, "n_head": 12},
    "355m": {"n_layer": 24, "n_embd": 1024, "n_head": 16},
    "774m": {"n_layer": 36, "n_embd": 1280, "n_head": 20},
    "1.5b": {"n_layer": 48, "n_embd": 1600, "n_head": 25},
}
"""GPT-2's sizes."""


def factories(work: Path, threads: int) -> dict[str, Callable[[], Program]]:
    """Functions that create each program, by name."""
    shipped = models.find(models.EMBEDDED)
    found: dict[str, Callable[[], Program]] = {
        "shakespeare transformers float32": lambda: transformers_program(
            as_llama(checkpoint.load(shipped).model)
        ),
        "transformers float32": lambda: transformers_program(
            transformers_gpt2(work, torch.float32)
        ),
        "transformers bfloat16": lambda: transformers_program(
            transformers_gpt2(work, torch.bfloat16)
        ),
    }
    for dtype in models.MEMORY_DTYPES:
        for kind in ("eager", "compiled"):
            ours = partial(our_cpu_program, dtype=dtype, compile=kind == "compiled")
            found[f"ours {dtype} {kind}"] = partial(ours, work / "models" / "gpt2")
            found[f"shakespeare ours {dtype} {kind}"] = partial(ours, shipped)
    for dtype in ("float32", "int8"):
        found[f"ctranslate2 {dtype}"] = partial(
            ctranslate2_program, work / "theirs", work, dtype, threads
        )
    for kind in ("F32", "F16", "Q8_0", "Q4_0"):
        found[f"llama.cpp {kind}"] = lambda kind=kind: llama_cpp_program(  # type: ignore[misc]
            transformers_gpt2(work, torch.float32), work, kind, threads
        )
    return found


def gpt2(work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """All measurements with random GPT-2 weights."""
    threads, rounds = args.threads, args.rounds
    from convert.write import convert

    source = work / "theirs"
    make(source, SIZES[args.size], sharded=False)
    words = json.loads((source / "vocab.json").read_text())
    words |= {f"t{i}": i for i in set(range(50256)) - set(words.values())}
    words["<|endoftext|>"] = 50256
    (source / "vocab.json").write_text(json.dumps(words))
    directory = convert(str(source), name="gpt2", verify=False).directory
    names = [name for name in factories(work, threads) if not name.startswith("shakespeare")]
    names = [name for name in names if not args.programs or name in args.programs]
    ids = [i * 7919 % 50257 for i in range(LONG)]
    found = speeds("benchmarks.decode", names, work, threads, ids, (PROMPT, DRAWN), rounds)
    bandwidth = 1e9 * found["bandwidth_gigabytes_per_second"]
    limits = {
        "limit_tokens_per_second": {
            dtype: round(
                bandwidth / bytes_per_token(checkpoint.load(directory, "cpu", dtype).model)
            )
            for dtype in models.MEMORY_DTYPES
        }
    }
    if args.programs:
        return found | limits
    return {
        **found,
        **limits,
        "cold_start": cold_start(directory, rounds),
        "memory_of_loading": {dtype: memory(directory, dtype) for dtype in models.MEMORY_DTYPES},
    }


def cold_start(directory: Path, rounds: int) -> dict[str, float]:
    """Seconds of a process that prints one token, and of one that only does what is unavoidable."""
    commands = {
        "import_torch_and_read_file": [
            "-c",
            "import sys, torch; open(sys.argv[1], 'rb').read()",
            str(directory / checkpoint.WEIGHTS),
        ],
        "complete_one_token": "-m gpt complete --model gpt2 --temperature 0 -n 1 the".split(),
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds + 1):
        for name, command in commands.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *command], check=True, capture_output=True)
            taken[name].append(time.perf_counter() - started)
    seconds = {name: statistics.median(values[1:]) for name, values in taken.items()}
    ratio = seconds["complete_one_token"] / seconds["import_torch_and_read_file"]
    return {**{name: round(value, 2) for name, value in seconds.items()}, "ratio": round(ratio, 2)}


MEMORY = """
import json, pathlib, sys, torch
import gpt.commands.bench
before = gpt.commands.bench.peak_memory()
model = gpt.checkpoint.load_network(pathlib.Path(sys.argv[1]), "cpu", sys.argv[2])
weights = list(model.parameters())
found = {"before": before, "peak": gpt.commands.bench.peak_memory()}
print(json.dumps({**found, "weights": sum(w.numel() * w.element_size() for w in weights)}))
"""


def memory(directory: Path, dtype: str) -> dict[str, float]:
    """Megabytes of a process before it loads a network and at its peak, and of the network."""
    command = [sys.executable, "-c", MEMORY, str(directory), dtype]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    megabytes = {name: round(value / 1e6) for name, value in found.items()}
    ratio = found["peak"] / (found["before"] + found["weights"])
    return {**megabytes, "peak_to_sum": round(ratio, 2)}


def shakespeare(work: Path, rounds: int) -> dict[str, Any]:
    """The shipped model in its default dtype, with its default number of threads."""
    loaded = load_model(models.find(models.EMBEDDED), RunOptions("cpu"))
    threads, dtype = loaded.threads, loaded.dtype
    names = ["transformers float32", f"ours {dtype} eager", f"ours {dtype} compiled"]
    names = [f"shakespeare {name}" for name in names]
    ids = [i % 65 for i in range(200)]
    found = speeds("benchmarks.decode", names, work, threads, ids, (PROMPT, DRAWN), rounds)
    return {"threads": threads, **found}


def main() -> None:
    """Measure everything and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=5, help="Rounds to measure. (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, default=2, help="Threads per program. (default: %(default)s)"
    )
    parser.add_argument(
        "--size", choices=SIZES, default="124m", help="Which GPT-2. (default: %(default)s)"
    )
    parser.add_argument(
        "--programs",
        nargs="+",
        metavar="NAME",
        help="Measure only these with GPT-2, and nothing else. (default: all)",
    )
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        name, directory = args.worker
        serve(factories(Path(directory), args.threads)[name], args.threads)
        return
    with tempfile.TemporaryDirectory() as work:
        os.environ["GPT_TUI_HOME"] = work
        result: dict[str, Any] = {
            "machine": f"{cpu()}, {os.cpu_count()} cores",
            "torch": torch.__version__,
            "threads": args.threads,
        }
        if not args.programs:
            result["shakespeare"] = shakespeare(Path(work), args.rounds)
        torch.set_num_threads(args.threads)
        result["gpt2"] = gpt2(Path(work), args)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
