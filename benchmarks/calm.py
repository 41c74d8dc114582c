"""Measure how responsive the interface is under load, in a pseudo-terminal; prints JSON.

    .venv/bin/python -m benchmarks.calm [--rate 2000] [--tokens 100000]

keys: milliseconds from a key press to its letter on the screen, while an engine without a model
streams --rate tokens per second, and while nothing is written. long_text: frames per second while a
text of --tokens tokens scrolls by pages and by rows, each from the key to the last byte of its
frame; and bytes per token by which the process grows, with the size of one token's objects. fork:
milliseconds from a request to its first new token, with the Shakespeare model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pexpect

from benchmarks.fast_engine import step
from gpt.settings import Sampling
from gpt.step import Step
from tui.backend import Completion, Loaded, Steps
from tui.document import Node
from tui.local_backend import LocalBackend

PAGE_DOWN, DOWN, BACKSPACE = "\x1b[6~", "\x1b[B", "\x7f"


def main() -> None:
    """Measure everything and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rate", type=int, default=2000, help="Tokens per second. (default: %(default)s)"
    )
    parser.add_argument(
        "--tokens", type=int, default=100_000, help="Tokens in the text. (default: %(default)s)"
    )
    parser.add_argument(
        "--presses", type=int, default=200, help="Keys to press. (default: %(default)s)"
    )
    parser.add_argument("--interface", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--score", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.interface:
        interface(args.score)
        return
    found = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "keys": keys(args.rate, args.presses),
        "long_text": long_text(args.tokens, args.presses),
        "fork": asyncio.run(fork(21)),
    }
    print(json.dumps(found, indent=1))


def interface(score: str | None) -> None:
    """Run gpt-tui with the engine without a model. score: path of a text to show."""
    from tui.app import GPTApp
    from tui.screens.main import MainScreen, Opening
    from tui.session import Session

    def connect(model: str) -> Any:
        backend = LocalBackend(engine="benchmarks.fast_engine").start()
        return backend, backend.load(model)

    text = Path(score).read_text() if score else ""
    prompt = "" if score else "a"
    session = Session(connect, connect("fast"), "fast")
    GPTApp(MainScreen(session, Opening(prompt=prompt, score=text, length=10**7))).run()


class Program:
    """The interface in a pseudo-terminal. Its bytes are read but not drawn, which costs time."""

    def __init__(self, *arguments: str, rate: int = 2000) -> None:
        home = tempfile.mkdtemp()
        self.child = pexpect.spawn(
            sys.executable,
            ["-m", "benchmarks.calm", "--interface", *arguments],
            dimensions=(40, 120),
            env={
                **os.environ,
                "TERM": "xterm-256color",
                "COLORTERM": "truecolor",
                "GPT_TUI_HOME": home,
                "FAST_ENGINE_RATE": str(rate),
            },
            encoding="utf-8",
            timeout=300,
        )
        self.child.delaybeforesend = None  # pexpect would wait 50 ms
        self.seen = ""

    def until(self, pattern: str, timeout: float = 300) -> None:
        """Read until a pattern appears in the bytes since the previous call."""
        deadline = time.monotonic() + timeout
        while not re.search(pattern, self.seen):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{pattern} did not appear")
            data = self.child.read_nonblocking(65536, timeout=timeout)
            self.seen = self.seen[-200:] + plain(data)
        self.seen = ""

    def drain(self, seconds: float) -> None:
        """Read everything for this many seconds: with a blinking cursor, output never ends."""
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            try:
                self.child.read_nonblocking(65536, timeout=remaining)
            except pexpect.TIMEOUT:
                break
        self.seen = ""

    def press(self, n: int) -> list[float]:
        """Milliseconds from each of n keys to its letter, which is nowhere else on the screen."""
        taken = []
        for i in range(n):
            letter = "QXZJK"[i % 5]
            started = time.perf_counter()
            self.child.send(letter)
            self.until(letter)
            taken.append(1000 * (time.perf_counter() - started))
            self.child.send(BACKSPACE)
            self.drain(0.1 + 0.037 * (i % 3))  # at varying times between two frames
        return taken

    def frame(self, key: str) -> float:
        """Seconds from a key to the last byte of its frame."""
        started = time.perf_counter()
        self.child.send(key)
        self.child.read_nonblocking(65536, timeout=60)
        while True:
            seconds = time.perf_counter() - started
            try:
                self.child.read_nonblocking(65536, timeout=0.005)
            except pexpect.TIMEOUT:
                return seconds

    def rss(self) -> int:
        """Bytes of memory that the process uses."""
        status = Path(f"/proc/{self.child.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        assert found
        return 1024 * int(found[1])


def plain(data: str) -> str:
    """Remove escape sequences, which move the cursor and set colours."""
    return re.sub(r"\x1b\[[0-9;?<>=]*[A-Za-z]", "", data)


def keys(rate: int, presses: int) -> dict[str, Any]:
    """Time of key presses while tokens stream, and after they were stopped."""
    program = Program(rate=rate)
    program.until("Writing")
    time.sleep(1)
    busy = program.press(presses)
    program.child.send("\x03")
    program.until("Stopped")
    program.drain(1.0)
    idle = program.press(presses // 2)
    program.child.close(force=True)
    return {
        "tokens_per_second": rate,
        "streaming_ms": summary(busy),
        "idle_ms": summary(idle),
    }


def summary(values: list[float]) -> dict[str, float]:
    """Median, 95th percentile and maximum."""
    percentiles = statistics.quantiles(values, n=20)
    found = {"median": statistics.median(values), "p95": percentiles[-1], "max": max(values)}
    return {name: round(value, 1) for name, value in found.items()}


def long_text(tokens: int, presses: int) -> dict[str, Any]:
    """Speed of scrolling through a long text, and the memory that it uses."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        empty = Program()
        empty.until("Enter")
        empty.drain(1.0)
        before = empty.rss()
        empty.child.close(force=True)
        file.write("word " * tokens)
        file.flush()
        program = Program("--score", file.name)
        program.until(f"context {tokens}/")
        program.drain(3.0)
        after = program.rss()
        program.child.send("\x1b[Z")  # from the prompt to the text
        program.drain(0.5)
        found = {}
        for name, key in (("page", PAGE_DOWN), ("row", DOWN)):
            taken = []
            for _ in range(presses):
                taken.append(program.frame(key))
            found[f"frames_per_second_by_{name}"] = round(1 / statistics.median(taken), 1)
        program.child.close(force=True)
    one = step(1, drawn=True)
    node = Node(Step.from_dict(json.loads(json.dumps(one))), False)
    return {
        "tokens": tokens,
        **found,
        "bytes_per_token": round((after - before) / tokens),
        "bytes_of_a_node": size_of(node),
    }


def size_of(value: object) -> int:
    """Bytes of an object and everything that only it holds. Integers are shared: they count 0."""
    size = sys.getsizeof(value)
    if isinstance(value, list | tuple):
        return size + sum(map(size_of, value))
    slots = getattr(type(value), "__slots__", ())
    return size + sum(
        size_of(getattr(value, name))
        for name in slots
        if not isinstance(getattr(value, name), int | None)
    )


async def fork(times: int) -> dict[str, float]:
    """Milliseconds to the first token of a fork, and after a return to the longer branch."""
    backend = LocalBackend().start()
    async for event in backend.load("shakespeare"):
        assert not isinstance(event, Loaded) or event.name
    ids: list[int] = []
    request = Completion([], "ROMEO:", Sampling(seed=1), 200)
    async for event in backend.complete(request):
        if isinstance(event, Steps):
            ids += [one.token_id for one in event.steps]
    taken: dict[str, list[float]] = {"back_to_200_tokens": [], "after_20_tokens": []}
    for seed in range(times):
        for name, path in (("back_to_200_tokens", ids), ("after_20_tokens", ids[:20])):
            started, first = time.perf_counter(), 0.0
            async for event in backend.complete(Completion(path, "", Sampling(seed=seed), 2)):
                if isinstance(event, Steps) and event.steps and not event.is_prompt and not first:
                    first = 1000 * (time.perf_counter() - started)
            taken[name].append(first)
    backend.close()
    return {name: round(statistics.median(values), 1) for name, values in taken.items()}


if __name__ == "__main__":
    main()
