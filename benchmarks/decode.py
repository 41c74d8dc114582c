"""Decoding, prefill and cold start on a CPU, beside other programs in the same run; prints JSON.

    .venv/bin/python -m benchmarks.decode [--rounds 5] [--threads 2] [--layers 12]

All programs take the same random weights of GPT-2's 124M and draw the same number of tokens
behind the same prompt, greedily, in turn, round after round, each in a process of its own;
figures are medians. Ours computes its full read-out with every token. In between, memory is
read, so that each figure stands beside the limit that this machine's bandwidth set at that
time. Peers that are not installed are named under "skipped"; `pip install '.[bench]'` brings
them.
"""

from __future__ import annotations

import argparse
import gc
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
from gpt import checkpoint, models
from gpt.bench import bytes_per_token, seconds_to_read, to_read
from gpt.checkpoint import Checkpoint
from gpt.context import Context
from gpt.fast.cpu_step import Compilation
from gpt.generate import Limits, generate
from gpt.loaded import RunOptions, load_model
from gpt.settings import Sampling
from gpt.weights.quantize import packing_pays
from tests.peers import as_llama

PROMPT, DRAWN, LONG = 64, 128, 512
GREEDY = Sampling(temperature=0.0)
GPT2 = {"n_embd": 768, "n_head": 12}


def our_program(loaded: Checkpoint, context: Context) -> Program:
    """Ours with everything that a Step says."""

    def run(ids: list[int], n: int) -> list[int]:
        context.truncate(0)
        path = list(ids)
        if n == 0:
            context.predict(context.read(ids)[-1])
        while len(path) < len(ids) + n:  # a token that ends a text does not end the measurement
            left = len(ids) + n - len(path)
            for step in generate(context, path.copy(), GREEDY, Limits(left)):
                path.append(step.token_id)
        return path[len(ids) :]

    return run


def transformers_program(model: Any) -> Program:
    """transformers' generate, and its forward for a prompt alone."""

    @torch.inference_mode()
    def run(ids: list[int], n: int) -> list[int]:
        prompt = torch.tensor([ids], device=model.device)
        if n == 0:
            model(prompt, use_cache=True, logits_to_keep=1)
            return []
        options = {"max_new_tokens": n, "min_new_tokens": n, "do_sample": False, "pad_token_id": 0}
        found = model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
        return found[0, len(ids) :].tolist()  # type: ignore[no-any-return]

    return run


def ours(directory: Path, dtype: str, *, compile: bool) -> Program:
    """A checkpoint of ours in a dtype, compiled or not."""
    packed = dtype == "int8" and not compile and packing_pays()  # as without a compiler
    loaded = checkpoint.load(directory, "cpu", dtype, packed=packed)
    context = loaded.new_context()
    if compile:
        compilation = Compilation(context, dtype)
        compilation.start(build=True)
        compilation.wait()
        if not compilation.is_installed:
            raise ImportError("no compiled code; is there a C++ compiler?")
    gc.freeze()
    return our_program(loaded, context)


def their_gpt2(work: Path, dtype: torch.dtype) -> Any:
    """transformers' network, which no token may end."""
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(str(work / "theirs"), dtype=dtype).eval()
    model.generation_config.eos_token_id = None
    return model


def factories(work: Path, threads: int) -> dict[str, Callable[[], Program]]:
    """How to make each program, by name."""
    shipped = models.find(models.EMBEDDED)
    found: dict[str, Callable[[], Program]] = {
        "shakespeare transformers float32": lambda: transformers_program(
            as_llama(checkpoint.load(shipped).model)
        ),
        "transformers float32": lambda: transformers_program(their_gpt2(work, torch.float32)),
        "transformers bfloat16": lambda: transformers_program(their_gpt2(work, torch.bfloat16)),
    }
    for dtype in models.DTYPES:
        for kind in ("eager", "compiled"):
            how = {"dtype": dtype, "compile": kind == "compiled"}
            found[f"ours {dtype} {kind}"] = partial(ours, work / "models" / "gpt2", **how)
            found[f"shakespeare ours {dtype} {kind}"] = partial(ours, shipped, **how)
    for dtype in ("float32", "int8"):
        found[f"ctranslate2 {dtype}"] = partial(
            ctranslate2_program, work / "theirs", work, dtype, threads
        )
    for kind in ("F32", "F16", "Q8_0"):
        found[f"llama.cpp {kind}"] = lambda kind=kind: llama_cpp_program(  # type: ignore[misc]
            their_gpt2(work, torch.float32), work, kind, threads
        )
    return found


def work_as(name: str, work: Path, threads: int) -> None:
    """The child's side of Worker: requests on stdin, answers on stdout."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    torch.set_num_threads(threads)
    try:
        run = factories(work, threads)[name]()
        run(list(range(8)), 2)  # what crashes should do it before the rounds
        print(json.dumps({"skipped": ""}), file=answers, flush=True)
    except Exception as error:  # a peer that cannot run is reported, not fatal
        reason = f"{type(error).__name__}: {error}"[:200]
        print(json.dumps({"skipped": reason}), file=answers, flush=True)
        return
    for line in sys.stdin:
        ids, n = json.loads(line)
        started = time.perf_counter()
        drawn = run(ids, n)
        answer = {"seconds": time.perf_counter() - started, "drawn": drawn}
        print(json.dumps(answer), file=answers, flush=True)


class Worker:
    """A program in a process of its own: the thread pools of several would fight for the cores."""

    def __init__(self, name: str, work: Path, threads: int) -> None:
        command = [sys.executable, "-m", "benchmarks.decode", "--worker", name, str(work)]
        self._process = subprocess.Popen(
            [*command, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.skipped = str(self._read().get("skipped", "it crashed"))

    def run(self, ids: list[int], n: int) -> tuple[float, list[int]]:
        """Seconds, and what was drawn."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps([ids, n]) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        return answer["seconds"], answer["drawn"]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline() or "{}")


def in_turn(
    names: list[str], work: Path, threads: int, ids: list[int], drawn: int, rounds: int
) -> dict[str, Any]:
    """Medians of tokens drawn behind the first 64 ids, and of reading all of them, per second.

    Reading the prompt is not counted where tokens are drawn: it is measured with the first
    token and subtracted.
    """
    workers = {name: Worker(name, work, threads) for name in names}
    skipped = {name: worker.skipped for name, worker in workers.items() if worker.skipped}
    workers = {name: worker for name, worker in workers.items() if not worker.skipped}
    memory = to_read(1 << 28, torch.device("cpu"))
    decode: dict[str, list[float]] = {name: [] for name in workers}
    prefill: dict[str, list[float]] = {name: [] for name in workers}
    bandwidth, texts = [], {}
    for number in range(rounds + 1):
        print(f"round {number} of {rounds}", file=sys.stderr)
        for name, worker in workers.items():
            worker.run(ids[:PROMPT], 1)  # it has slept while the others worked
            whole, texts[name] = worker.run(ids[:PROMPT], drawn)
            first, _ = worker.run(ids[:PROMPT], 1)
            reading, _ = worker.run(ids, 0)
            if number:  # the first round warms up
                decode[name].append((drawn - 1) / (whole - first))
                prefill[name].append(len(ids) / reading)
            bandwidth.append(memory.nbytes / min(seconds_to_read(memory) for _ in range(3)))
    for worker in workers.values():
        worker.close()
    reference = next(text for name, text in texts.items() if "transformers float32" in name)
    return {
        "decode_tokens_per_second": medians(decode),
        "prefill_tokens_per_second": medians(prefill),
        "bandwidth_gigabytes_per_second": round(statistics.median(bandwidth) / 1e9, 1),
        "same_tokens_as_transformers_float32": {
            name: sum(map(int.__eq__, text, reference)) for name, text in texts.items()
        },
        "skipped": skipped,
    }


def medians(taken: dict[str, list[float]]) -> dict[str, float]:
    """Of each list."""
    return {name: round(statistics.median(values), 1) for name, values in taken.items()}


def gpt2(work: Path, layers: int, threads: int, rounds: int) -> dict[str, Any]:
    """Everything on random GPT-2 weights."""
    from convert.write import convert

    theirs = work / "theirs"
    make(theirs, {**GPT2, "n_layer": layers}, sharded=False)
    words = json.loads((theirs / "vocab.json").read_text())
    words |= {f"t{i}": i for i in set(range(50256)) - set(words.values())}
    words["<|endoftext|>"] = 50256
    (theirs / "vocab.json").write_text(json.dumps(words))
    directory = convert(str(theirs), name="gpt2", verify=False).directory
    names = [name for name in factories(work, threads) if not name.startswith("shakespeare")]
    ids = [i * 7919 % 50257 for i in range(LONG)]
    found = in_turn(names, work, threads, ids, DRAWN, rounds)
    bandwidth = 1e9 * found["bandwidth_gigabytes_per_second"]
    return {
        **found,
        "limit_tokens_per_second": {
            dtype: round(
                bandwidth / bytes_per_token(checkpoint.load(directory, "cpu", dtype).model)
            )
            for dtype in models.DTYPES
        },
        "cold_start": cold_start(directory, rounds),
        "memory_of_loading": {dtype: memory(directory, dtype) for dtype in models.DTYPES},
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


MEMORY = """
import json, pathlib, sys, torch
import gpt.bench
before = gpt.bench.peak_memory()
model = gpt.checkpoint.load_network(pathlib.Path(sys.argv[1]), "cpu", sys.argv[2])
weights = list(model.parameters())
found = {"before": before, "peak": gpt.bench.peak_memory()}
print(json.dumps({**found, "weights": sum(w.numel() * w.element_size() for w in weights)}))
"""


def memory(directory: Path, dtype: str) -> dict[str, float]:
    """Megabytes of a process that loads a network, and of the network."""
    command = [sys.executable, "-c", MEMORY, str(directory), dtype]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    megabytes = {name: round(value / 1e6) for name, value in found.items()}
    ratio = found["peak"] / (found["before"] + found["weights"])
    return {**megabytes, "peak_to_sum": round(ratio, 2)}


def shakespeare(work: Path, rounds: int) -> dict[str, Any]:
    """The shipped model in its default dtype and as many threads as it takes by default."""
    ready = load_model(models.find(models.EMBEDDED), RunOptions("cpu"))
    threads, dtype = ready.threads, ready.dtype
    names = ["transformers float32", f"ours {dtype} eager", f"ours {dtype} compiled"]
    names = [f"shakespeare {name}" for name in names]
    found = in_turn(names, work, threads, [i % 65 for i in range(200)], DRAWN, rounds)
    return {"threads": threads, **found}


def main() -> None:
    """Measure everything and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", type=int, default=12, help="of the random GPT-2")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        name, where = args.worker
        work_as(name, Path(where), args.threads)
        return
    with tempfile.TemporaryDirectory() as work:
        os.environ["GPT_TUI_HOME"] = work
        result: dict[str, Any] = {
            "machine": f"{cpu()}, {os.cpu_count()} cores",
            "torch": torch.__version__,
            "threads": args.threads,
            "shakespeare": shakespeare(Path(work), args.rounds),
        }
        torch.set_num_threads(args.threads)
        result["gpt2"] = gpt2(Path(work), args.layers, args.threads, args.rounds)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
