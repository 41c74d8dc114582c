"""A storm of keys, pastes, mouse events and sizes on the real program, with a model that writes.

After it the program must answer and leave with status 0, and the terminal must be as it was. Some
storms find "Quit" in a list and choose it: then the program has left in the same way.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpt.checkpoint import save
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model
from tests.fuzz.seconds import seconds
from tests.terminal import KEYS, RESTORED, Terminal, terminals

SEED = 20
SIZES = ((120, 40), (80, 24), (60, 20), (200, 60), (1, 1), (9, 3), (300, 9))
ENDS = {"ctrl+q", "ctrl+z", "f7"}
"""Keys that end the program, stop its process, or start an editor."""
PIECES = [
    *(key for name, key in KEYS.items() if name not in ENDS),
    *map(chr, range(32, 127)),
    *("é", "🙂", "\x1bx", "\x1b[1;2A", "\x1b[1;5C", "\x1b[I", "\x1b[O", "\x1b[48;5;5;5;5t"),
    "\x1b[200~[/x] pasted\r\nto be\x1b[201~",
    "\x1b[200~\x1b[31m\x1b[A\x1b[201~",
]


def piece(random: random.Random) -> str:
    """Something that a terminal may send."""
    if random.random() < 0.1:
        button, end = random.choice([0, 0, 2, 32, 64, 65]), random.choice("Mm")
        return f"\x1b[<{button};{random.randint(1, 130)};{random.randint(1, 45)}{end}"
    return random.choice(PIECES)


@pytest.fixture
def start(
    tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Terminal]]:
    model = random_model(block_size=100_000, positions="rotary")
    save(tiny_directory, model, CharTokenizer(CHARACTERS))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)  # exports and pictures land here
    yield from terminals("tiny", "--prompt", "to be", "-n", "3000")


@pytest.mark.slow
def test_a_storm_of_keys_ends_nothing(start: Callable[..., Terminal]) -> None:
    until, number = time.monotonic() + seconds(15), 0
    while number == 0 or time.monotonic() < until:
        dice = random.Random(SEED + number)
        size = dice.choice(SIZES[:4])
        terminal = start(size=size)
        terminal.shows(r"context \d+/100000|tiny")
        sent = []
        for _ in range(150):
            sent.append("".join(piece(dice) for _ in range(dice.randint(1, 8))))
            terminal.storm(sent[-1])
            if dice.random() < 0.03:
                terminal.resize(*dice.choice(SIZES))
            if not terminal.is_alive():
                break
        said = f"seed {SEED + number}, {size}, after {len(sent)} bursts, the last: {sent[-3:]!r}"
        if terminal.is_alive():
            terminal.resize(120, 40)
            status = terminal.quit()
        else:
            status = terminal.end()
        assert status == 0, f"status {status}; {said}\n{terminal.raw[-3000:]}"
        assert RESTORED in terminal.raw
        assert "Traceback" not in terminal.raw, f"{said}\n{terminal.raw[-3000:]}"
        number += 1
