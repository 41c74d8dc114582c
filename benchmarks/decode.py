"""Decoding, prefill and cold start on a CPU, beside other programs in the same run; prints JSON.

    .venv/bin/python -m benchmarks.decode [--rounds 5] [--threads 2] [--layers 12]

All programs take the same random weights of GPT-2's 124M and draw the same number of tokens
behind the same prompt, greedily, in turn, round after round; figures are medians. Ours computes
its full read-out with every token. In between, memory is read, so that each figure stands
beside the limit that this machine's bandwidth set at that time. Peers that are not installed
are named under "skipped"; `pip install '.[bench]'` brings them.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.convert import make
from benchmarks.main_job import cpu
from benchmarks.other_programs import Program, ctranslate2_program, llama_cpp_program
from gpt import checkpoint, device, models
from gpt.bench import bytes_per_token, seconds_to_read
from gpt.checkpoint import Checkpoint
from gpt.compiled import Compilation
from gpt.generate import Context, generate, raw_logits
from gpt.settings import Sampling
from tests.peers import as_llama

PROMPT, DRAWN, LONG = 64, 128, 512
GREEDY = Sampling(temperature=0.0)
GPT2 = {"n_embd": 768, "n_head": 12}


def our_program(loaded: Checkpoint) -> Program:
    """Ours with everything that a Step says."""

    def run(ids: list[int], n: int) -> list[int]:
        context, path = Context(loaded.model), list(ids)
        if n == 0:
            raw_logits(loaded.model, context.read(ids)[-1])
        while len(path) < len(ids) + n:  # a token that ends a text does not end the measurement
            left = len(ids) + n - len(path)
            for step in generate(loaded, context, path.copy(), GREEDY, max_new_tokens=left):
                path.append(step.token_id)
        return path[len(ids) :]

    return run


def transformers_program(model: Any) -> Program:
    """transformers' generate, and its forward for a prompt alone."""

    @torch.inference_mode()
    def run(ids: list[int], n: int) -> list[int]:
        prompt = torch.tensor([ids])
        if n == 0:
            model(prompt, use_cache=True, logits_to_keep=1)
            return []
        options = {"max_new_tokens": n, "min_new_tokens": n, "do_sample": False, "pad_token_id": 0}
        found = model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
        return found[0, len(ids) :].tolist()  # type: ignore[no-any-return]

    return run


def ours(directory: Path, dtype: str, *, compile: bool) -> tuple[Program, Checkpoint]:
    """A checkpoint of ours in a dtype, compiled or not."""
    loaded = checkpoint.load(directory, "cpu", dtype)
    if compile:
        compilation = Compilation(loaded.model, dtype, build=True)
        compilation.wait()
        if not compilation.is_installed:
            raise ImportError("no compiled code; is there a C++ compiler?")
    return our_program(loaded), loaded


def rounds_of(
    programs: dict[str, Program], ids: list[int], n: int, rounds: int
) -> tuple[dict[str, float], float]:
    """Median tokens per second of each (drawn, or read where n is 0), and bytes per second."""
    memory = torch.ones(1 << 26)
    taken: dict[str, list[float]] = {name: [] for name in programs}
    bandwidth = []
    for number in range(rounds + 1):
        print(f"round {number} of {rounds}, {n or 'no'} tokens drawn", file=sys.stderr)
        for name, run in programs.items():
            started = time.perf_counter()
            run(ids, n)
            if number:  # the first round warms up
                taken[name].append((n or len(ids)) / (time.perf_counter() - started))
        bandwidth.append(memory.nbytes / min(seconds_to_read(memory) for _ in range(5)))
    speeds = {name: round(statistics.median(values), 1) for name, values in taken.items()}
    return speeds, statistics.median(bandwidth)


def skipping(programs: dict[str, Callable[[], Program]], skipped: dict[str, str]) -> Iterator[Any]:
    """Those that can be made; the others' names and reasons."""
    for name, program in programs.items():
        try:
            yield name, program()
        except Exception as error:  # a peer that cannot run is reported, not fatal
            skipped[name] = f"{type(error).__name__}: {error}"[:200]


def gpt2(work: Path, layers: int, threads: int, rounds: int) -> dict[str, Any]:
    """Everything on random GPT-2 weights."""
    from transformers import GPT2LMHeadModel

    from convert.write import convert

    theirs = work / "theirs"
    make(theirs, {**GPT2, "n_layer": layers}, sharded=False)
    words = json.loads((theirs / "vocab.json").read_text())
    words |= {f"t{i}": i for i in set(range(50257)) - set(words.values())}
    (theirs / "vocab.json").write_text(json.dumps(words))
    directory = convert(str(theirs), name="gpt2", verify=False).directory
    models_of_ours: dict[str, Checkpoint] = {}
    skipped: dict[str, str] = {}

    def ours_as(dtype: str, compile: bool) -> Program:
        program, loaded = ours(directory, dtype, compile=compile)
        models_of_ours[dtype] = loaded
        return program

    exact = GPT2LMHeadModel.from_pretrained(str(theirs), dtype=torch.float32).eval()
    half = GPT2LMHeadModel.from_pretrained(str(theirs), dtype=torch.bfloat16).eval()
    # A text that ends would end the measurement.
    for model in (exact, half):
        model.generation_config.eos_token_id = None
    wanted: dict[str, Callable[[], Program]] = {
        "transformers float32": lambda: transformers_program(exact),
        "transformers bfloat16": lambda: transformers_program(half),
    }
    for dtype in models.DTYPES:
        wanted[f"ours {dtype} eager"] = lambda dtype=dtype: ours_as(dtype, False)  # type: ignore[misc]
        wanted[f"ours {dtype} compiled"] = lambda dtype=dtype: ours_as(dtype, True)  # type: ignore[misc]
    for kind in ("float32", "int8"):
        wanted[f"ctranslate2 {kind}"] = lambda kind=kind: ctranslate2_program(  # type: ignore[misc]
            theirs, work, kind, threads
        )
    for kind in ("F32", "F16", "Q8_0"):
        wanted[f"llama.cpp {kind}"] = lambda kind=kind: llama_cpp_program(  # type: ignore[misc]
            exact, work, kind, threads
        )
    programs = dict(skipping(wanted, skipped))
    ids = [i * 7919 % 50257 for i in range(LONG)]
    decode, bandwidth = rounds_of(programs, ids[:PROMPT], DRAWN, rounds)
    prefill, _ = rounds_of(programs, ids, 0, rounds)
    limits = {
        dtype: round(bandwidth / bytes_per_token(loaded.model), 1)
        for dtype, loaded in models_of_ours.items()
    }
    reference = programs["transformers float32"](ids[:PROMPT], DRAWN)
    return {
        "decode_tokens_per_second": decode,
        "prefill_tokens_per_second": prefill,
        "bandwidth_gigabytes_per_second": round(bandwidth / 1e9, 1),
        "limit_tokens_per_second": limits,
        "same_tokens_as_transformers_float32": {
            name: sum(map(int.__eq__, run(ids[:PROMPT], DRAWN), reference))
            for name, run in programs.items()
        },
        "cold_start": cold_start(directory, rounds),
        "skipped": skipped,
    }


def cold_start(directory: Path, rounds: int) -> dict[str, float]:
    """Seconds of a whole process until its first token is printed, and of the least it must do."""
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
    medians = {name: statistics.median(values[1:]) for name, values in taken.items()}
    ratio = medians["complete_one_token"] / medians["import_torch_and_read_file"]
    return {**{name: round(value, 2) for name, value in medians.items()}, "ratio": round(ratio, 2)}


def shakespeare(rounds: int) -> dict[str, Any]:
    """The shipped model as it runs by default, on one thread, beside transformers."""
    directory = models.find(models.EMBEDDED)
    n_params = models.read_manifest(directory).n_params
    threads = device.use_threads(n_params)
    _, dtype = device.choose("cpu", "auto", n_params)
    exact = checkpoint.load(directory)
    programs = {
        "transformers float32": transformers_program(as_llama(exact.model)),
        f"ours {dtype} eager": ours(directory, dtype, compile=False)[0],
        f"ours {dtype} compiled": ours(directory, dtype, compile=True)[0],
    }
    speeds, bandwidth = rounds_of(programs, list(range(64)), 2 * DRAWN - 64, rounds)
    return {
        "threads": threads,
        "decode_tokens_per_second": speeds,
        "bandwidth_gigabytes_per_second": round(bandwidth / 1e9, 1),
    }


def main() -> None:
    """Measure everything and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=12, help="of the random GPT-2")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        os.environ["GPT_TUI_HOME"] = work
        result: dict[str, Any] = {
            "machine": f"{cpu()}, {os.cpu_count()} cores",
            "torch": torch.__version__,
            "threads": args.threads,
            "shakespeare": shakespeare(args.rounds),
        }
        torch.set_num_threads(args.threads)
        result["gpt2"] = gpt2(Path(work), args.layers, args.threads, args.rounds)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
