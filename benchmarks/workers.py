"""Programs that take turns at the same task, each in its own process."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.other_programs import Program
from benchmarks.rounds import medians
from gpt.commands.bench import seconds_to_read, to_read


def serve(factory: Callable[[], Program], threads: int) -> None:
    """Run in the process of a Worker: requests come on stdin, answers go to stdout.

    factory: creates the program.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print, but not into the answers
    torch.set_num_threads(threads)
    try:
        run = factory()
        run(list(range(8)), 2)  # a program that crashes should do so before the rounds
        print(json.dumps({"skipped": ""}), file=answers, flush=True)
    except Exception as error:  # a program that cannot run is reported and skipped
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
    """A program in its own process: several thread pools in one would compete for the cores."""

    def __init__(self, module: str, name: str, work: Path, threads: int) -> None:
        """module: is run with `--worker NAME WORK`, and calls `serve`."""
        command = [sys.executable, "-m", module, "--worker", name, str(work)]
        self._process = subprocess.Popen(
            [*command, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.skipped = str(self._read().get("skipped", "it crashed"))

    def run(self, ids: list[int], n: int) -> tuple[float, list[int]]:
        """Seconds, and the ids that were drawn."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps([ids, n]) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        return answer["seconds"], answer["drawn"]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline() or "{}")


def speeds(
    module: str,
    names: list[str],
    work: Path,
    threads: int,
    ids: list[int],
    sizes: tuple[int, int],
    rounds: int,
) -> dict[str, Any]:
    """Medians: tokens per second drawn after a short prompt, and read, of all ids.

    module: see Worker. sizes: tokens of the short prompt, and drawn tokens.

    Figures for drawing do not include the prompt: reading it is measured with the first token, and
    subtracted.
    """
    prompt, drawn = sizes
    workers = {name: Worker(module, name, work, threads) for name in names}
    skipped = {name: worker.skipped for name, worker in workers.items() if worker.skipped}
    workers = {name: worker for name, worker in workers.items() if not worker.skipped}
    memory = to_read(1 << 28, torch.device("cpu"))
    decode: dict[str, list[float]] = {name: [] for name in workers}
    prefill: dict[str, list[float]] = {name: [] for name in workers}
    bandwidth, texts = [], {}
    for number in range(rounds + 1):
        print(f"round {number} of {rounds}", file=sys.stderr)
        for name, worker in workers.items():
            worker.run(ids[:prompt], 1)  # wake up: the process slept during the others' turns
            whole, texts[name] = worker.run(ids[:prompt], drawn)
            first, _ = worker.run(ids[:prompt], 1)
            reading, _ = worker.run(ids, 0)
            if number:  # the first round only warms up
                decode[name].append((drawn - 1) / (whole - first))
                prefill[name].append(len(ids) / reading)
            bandwidth.append(memory.nbytes / min(seconds_to_read(memory) for _ in range(3)))
    for worker in workers.values():
        worker.close()
    reference = next(
        (text for name, text in texts.items() if "float32" in name), next(iter(texts.values()))
    )
    return {
        "decode_tokens_per_second": medians(decode),
        "prefill_tokens_per_second": medians(prefill),
        "bandwidth_gigabytes_per_second": round(statistics.median(bandwidth) / 1e9, 1),
        "same_tokens_as_float32": {
            name: sum(map(int.__eq__, text, reference)) for name, text in texts.items()
        },
        "skipped": skipped,
    }
