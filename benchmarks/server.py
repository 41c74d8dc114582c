"""Measure a llama.cpp server's tokens as our program and as curl read them; prints JSON.

    .venv/bin/python -m benchmarks.server [--file MODEL.gguf] [--candidates 10] [--rounds 5]

The server (the package xllamacpp) runs on this machine with one thread. Without a file it serves a
tiny random GPT-2, so that a token costs the server next to nothing. Both readers ask for the same
tokens and candidates in a stream, in turn; ours makes a Step of each. The server has one core and
the readers another one, where the system allows that. Figures are medians; `cpu_ms_per_token` is
the time that our process computes.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.rounds import cpu, in_turn
from gpt.limits import Limits
from gpt.remote.connect import connect
from gpt.remote.session import EXACT_SIZE
from gpt.settings import Sampling
from tests.convert.conftest import gpt2
from tests.convert.gguf_files import write_gguf
from tests.gpt.llama_server import LlamaServer

CONTEXT = 512


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, help="GGUF file. (default: a tiny random GPT-2)")
    parser.add_argument("--candidates", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        file = args.file or write_gguf(
            Path(directory) / "tiny.gguf", gpt2(n_positions=CONTEXT, n_embd=64, n_head=2)
        )
        run_on_core(0)
        server = LlamaServer(file, context=CONTEXT)
        run_on_core(-1)
        costs: list[float] = []
        try:
            readers = {"ours": ours(server.url, args, costs), "curl": curl(server.url, args)}
            speeds = in_turn(readers, args.rounds)
        finally:
            server.kill()
    found = {
        "cpu": cpu(),
        "tokens_per_second": speeds,
        "ratio": round(speeds["ours"] / speeds["curl"], 2),
        "cpu_ms_per_token": round(statistics.median(costs), 3),
    }
    print(json.dumps(found, indent=2))


CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
"""Cores that this process may use; empty if the system does not say."""


def run_on_core(number: int) -> None:
    """Run on one core from now on, and so do processes that are started then."""
    if CORES:
        os.sched_setaffinity(0, {CORES[number]})


def ours(url: str, args: argparse.Namespace, costs: list[float]) -> Callable[[], float]:
    """Tokens per second of our session; costs get its CPU time in ms a token."""
    session = connect(url)
    atexit.register(session.close)
    ids = session.encode("a")
    sampling = Sampling(temperature=1.5, banned=tuple((i,) for i in odd_tokens(url)))

    def read() -> float:
        started, computed, n = time.perf_counter(), time.process_time(), 0
        while n < args.tokens:  # a text may end early
            drawing = session.generate(ids, sampling, Limits(args.tokens - n), top=args.candidates)
            n += sum(1 for _ in drawing)
        costs.append(1000 * (time.process_time() - computed) / n)
        return n / (time.perf_counter() - started)

    return read


def odd_tokens(url: str) -> list[int]:
    """Tokens of a small vocabulary that end a text or a part of a character.

    llama.cpp sends parts of characters together, so a random text would be mostly corrections.
    """
    session = connect(url)
    size = session.model.vocab_size
    pieces = session.pieces(range(size)) if size <= EXACT_SIZE else {}
    session.close()
    return [i for i, piece in pieces.items() if not piece.bytes or not piece.bytes.isascii()]


def curl(url: str, args: argparse.Namespace) -> Callable[[], float]:
    """Tokens per second of curl."""
    session = connect(url)
    size = session.model.vocab_size
    bias = [[i, False] for i in odd_tokens(url)]
    session.close()
    body = {
        "prompt": "a",
        "n_predict": args.tokens,
        "n_probs": size if size <= EXACT_SIZE else args.candidates,  # as ours asks
        "logit_bias": bias,
        "temperature": 1.5,
        "samplers": ["temperature"],
        "ignore_eos": True,
        "stream": True,
    }
    command = ["curl", "-sN", f"{url}/completion", "-d", json.dumps(body)]

    def read() -> float:
        started = time.perf_counter()
        answer = subprocess.run(command, check=True, capture_output=True).stdout
        return answer.count(b"data:") / (time.perf_counter() - started)

    return read


if __name__ == "__main__":
    main()
