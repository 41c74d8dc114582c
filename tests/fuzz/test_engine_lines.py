"""Odd lines to the engine: each request is answered exactly once, and the engine goes on."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest

from gpt.checkpoint import save
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model
from tests.fuzz.seconds import seconds
from tests.gpt.served import PARTS, PATIENCE, Line, Output, Served

SEED = 20
BATCH = 40
ODD: list[Any] = [
    *(None, True, False, -1, 0, 1, 2, 3, 64, 65, 2**31, 2**63, -(2**70), 10**400),
    *(0.5, -0.5, 1e308, 1e-320, float("nan"), float("inf"), -float("inf")),
    *("", "a", "to be or not", "\ud800", "\0", "\x1b[2J", "é", "cuda", "cuda:99999999999", "mps"),
    *([], [0], [-1], [28], [29], [1.5], [True], [[]], [[1, 2], 3], [[1, 1e308]], [["a", 1]], {}),
    *(
        {"a": 1},
        {"temperature": 0},
        {"banned": [[1]], "boosted": [[2, 5]]},
        {"top_p": 0, "seed": 7},
    ),
]
TEXTS = ["", "a", "to be or not to be. " * 3, "z" * 31, "z" * 32, "z" * 33, "b" * 300]
INTERVENTIONS: list[Line] = [
    {"kind": "knockout", "part": "head", "layer": 1, "head": 2},
    {"kind": "knockout", "part": "mlp", "layer": 2, "by": "mean"},
    {"kind": "knockout", "part": "head", "layer": 1},
    {"kind": "edge", "source": 1},
    {"kind": "edge", "source": 2, "target": 1},
    {"kind": "edge", "source": 10**6, "layer": 1, "head": 1},
    {"kind": "steer", "layer": 1, "towards": ["to"], "away": ["be"], "strength": 3},
    {"kind": "steer", "layer": 0, "towards": ["\ud800"], "away": ["b" * 400], "over": "mean"},
    {"kind": "explode"},
]
RARE: list[Line] = [
    {},
    {"presence_penalty": -1, "frequency_penalty": 2, "penalty_window": 3},
    {"dry_multiplier": 100, "dry_base": 100, "dry_allowed_length": 1},
    {"dynatemp_range": 5, "top_n_sigma": 1e-9, "typical_p": 0},
    {"xtc_probability": 1, "xtc_threshold": 0, "mirostat_tau": 1e-3, "mirostat_mu": -9},
    {"min_p": 1, "typical_p": 0.5, "order": ["min_p", "temperature", "boosted"]},
]
"""Settings that few people use."""
GOOD: dict[str, Callable[[random.Random], Any]] = {
    "ids": lambda r: [r.randrange(29) for _ in range(r.choice((0, 1, 5, 31, 32, 33, 100)))],
    "text": lambda r: r.choice(TEXTS),
    "segments": lambda r: r.choice(([], ["to", 3], [5, "be", 28], [""])),
    "second": lambda r: r.random() < 0.3,
    "top": lambda r: r.choice((0, 1, 5, 29, 10**6)),
    "echo_from": lambda r: r.choice((0, 1, 5, 10**6)),
    "sampling": lambda r: {
        "temperature": r.random() * 2,
        "top_k": r.randrange(5),
        "seed": 1,
        **r.choice(RARE),
    },
    "max_new_tokens": lambda r: r.choice((0, 1, 5, 40, 10**9)),
    "stop": lambda r: r.choice(([], ["a"], ["be", "z"])),
    "slide": lambda r: r.random() < 0.5,
    "branches": lambda r: r.choice((1, 1, 1, 3)),
    "chat": lambda r: r.random() < 0.2,
    "system": lambda r: r.choice(("", "to be")),
    "chosen": lambda r: r.randrange(29),
    "width": lambda r: r.randrange(1, 9),
    "depth": lambda r: r.randrange(1, 9),
    "last": lambda r: r.randrange(9),
    "options": lambda r: r.choice((["a"], ["a", "be", "c" * 40], [])),
    "interventions": lambda r: r.sample(INTERVENTIONS, r.randrange(3)),
    "versus": lambda r: r.randrange(29),
    "layer": lambda r: r.randrange(4),
    "head": lambda r: r.randrange(4),
    "middle": lambda r: r.random() < 0.5,
    "scores": lambda r: r.random() < 0.5,
    "components": lambda r: r.choice((0, 3, 10**6)),
    "other_text": lambda r: r.choice(TEXTS),
    "positions": lambda r: r.choice(([], [0], [3, 1, 99])),
    "measures": lambda r: r.choice(([], ["cut"], ["gradient", "left out"], ["all"])),
    "plus": lambda r: r.choice(([], [1], [1, 2])),
    "minus": lambda r: r.choice(([], [3])),
    "matrix": lambda r: r.choice(("embedding", "output", "positions", "")),
    "tokens": lambda r: r.choice(([], [1], [1, 2, 3])),
}
OPS = [
    *("tokenize", "score", "generate", "waterfall", "paths", "layers", "attribution", "options"),
    *("compare", "models", "unload", "load"),
    *("lens", "cell", "heads", "work", "norms", "parts", "mattered", "effect", "steering", "patch"),
    *("neighbours", "plane"),
]


class Target(Protocol):
    """An engine, here or in its own process."""

    def send(self, line: Line | bytes) -> None: ...

    def wait(self, seen: Callable[[list[Line]], bool]) -> None: ...


class Process:
    """The engine in a process of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gpt.engine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.said: list[bytes] = []
        self._output = Output()
        self.wait = self._output.wait
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._read, self._overhear)
        ]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._output.write(line.decode())

    def _overhear(self) -> None:
        assert self.process.stderr
        self.said += self.process.stderr

    def send(self, line: Line | bytes) -> None:
        assert self.process.stdin
        data = line if isinstance(line, bytes) else json.dumps(line).encode()
        self.process.stdin.write(data + b"\n")
        self.process.stdin.flush()

    def close(self) -> list[Line]:
        """End the input; all that the engine wrote once it has ended."""
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(PATIENCE) == 0
        for thread in self._threads:
            thread.join(PATIENCE)
        return self._output.lines


def odd_line(r: random.Random, directory: Path, endless: bool) -> bytes:
    """One line: most are requests, some with odd fields, some are not even JSON."""
    request: Line = {"id": r.choice((*range(20), "a", "b", None)), "op": r.choice(OPS)}
    if r.random() < 0.1:
        request["op"] = "cancel"
    if request["op"] == "load":
        request["model"] = str(directory / r.choice(("one", "two", "none")))
        request["device"] = r.choice(("cpu", "auto"))
    elif request["op"] != "models":
        names = r.sample(list(GOOD), r.randrange(4))
        request |= {name: GOOD[name](r) for name in (*names, "text", "options", "plus", "tokens")}
        if not endless and "max_new_tokens" in request:
            request["max_new_tokens"] %= 41
    if r.random() < 0.3:
        wrong = r.choice([*request, "op", "id", *GOOD, "device", "dtype", "unknown"])
        if wrong != "model":
            request[wrong] = r.choice(ODD)
    if r.random() < 0.1:
        request.pop(r.choice(list(request)))
    if request.get("op") == "load" and "model" not in request:
        request["model"] = ""
    line = json.dumps(request).encode()
    if r.random() < 0.1:
        at = r.randrange(len(line))
        line = r.choice(
            (
                line[:at],
                line[at:],
                line[:at] + bytes([r.choice([*range(10), *range(11, 256)])]) + line[at + 1 :],
                b"[" * r.choice((1, 100, 100_000)),
                b'{"id":1,"op":"models","x":' + b"9" * 5000 + b"}",
                r.randbytes(20).replace(b"\n", b""),
                b"",
            )
        )
    return line


def expected(line: bytes) -> list[Any]:
    """The ids of the answers to a line: one, or none."""
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        return [None]
    if not isinstance(request, dict):
        return [None]
    if request.get("op") == "cancel":
        return []
    number = request.get("id")
    return [number if type(number) in (str, int) else None]


def answered(lines: list[Line]) -> Counter[Any]:
    """How often each id was answered to the end."""
    ends = (line for line in lines if line["event"] not in {*PARTS, "hello"})
    return Counter(line["id"] for line in ends)


def storm(target: Target, directory: Path, budget: float, least: int) -> None:
    """Lines for some seconds, but at least so many.

    Every other batch may have endless requests; when all was sent, all are cancelled.
    """
    r, n, end = random.Random(SEED), 0, time.monotonic() + budget
    while n < least or time.monotonic() < end:
        endless = n // BATCH % 2 == 0
        lines = [
            json.dumps(
                {
                    "id": "load",
                    "op": "load",
                    "model": str(directory / name),
                    "device": "cpu",
                    "second": name == "two",
                }
            ).encode()
            for name in ("one", "two")[: r.randrange(3)]
        ]
        lines += [odd_line(r, directory, endless) for _ in range(BATCH)]
        wanted = Counter(number for line in lines for number in expected(line))
        for line in lines:
            target.send(line)
        for number in wanted if endless else ():
            target.send({"op": "cancel", "id": number})
        target.wait(partial(check, wanted, f"seed {SEED}, lines from {n} on: {lines}"))
        n += BATCH


def check(wanted: Counter[Any], which: str, lines: list[Line]) -> bool:
    """Whether all is answered; what has come is then forgotten."""
    found = answered(lines)
    assert found <= wanted, f"{found - wanted} answered too often; {which}"
    failed = [line for line in lines if "engine failed" in line.get("message", "")]
    assert not failed, f"{failed[0]['message']}; {which}"
    if found < wanted:
        return False
    lines.clear()
    return True


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two models of other vocabularies."""
    save(tmp_path / "one", random_model(), CharTokenizer(CHARACTERS))
    other = random_model(n_layer=1, block_size=16)
    save(tmp_path / "two", other, CharTokenizer(CHARACTERS[::-1]))
    return tmp_path


@pytest.mark.slow
def test_every_request_of_a_storm_is_answered_once(directory: Path) -> None:
    engine = Served()
    storm(engine, directory, seconds(4), 1200)
    engine.close()


@pytest.fixture
def process() -> Iterator[Process]:
    engine = Process()
    yield engine
    engine.process.kill()


def test_a_storm_leaves_the_process_alive_until_its_input_ends(
    process: Process, directory: Path
) -> None:
    engine = process
    storm(engine, directory, seconds(1), 400)
    load = {"id": "last load", "op": "load", "model": str(directory / "one"), "device": "cpu"}
    engine.send(load)
    endless = {"op": "generate", "text": "a", "max_new_tokens": 10**9, "slide": True}
    engine.send({"id": "endless", **endless})
    engine.wait(lambda lines: lines[-1:] != [] and lines[-1]["id"] == "endless")
    lines = engine.close()
    assert lines[-1]["finish_reason"] == "cancelled"
    assert engine.said == []
