"""One sitting in the real program, in a pseudo-terminal, with real (tiny) models."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gpt.checkpoint import save
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model
from tests.terminal import Terminal

F2, F3, F4, F5, F8 = "\x1bOQ", "\x1bOR", "\x1bOS", "\x1b[15~", "\x1b[19~"
TO_THE_TEXT, LEFT, HOME, DOWN, ESCAPE = "\t", "\x1b[D", "\x1b[H", "\x1b[B", "\x1b"


@pytest.mark.slow
def test_a_person_uses_everything(home: Path, tmp_path: Path) -> None:
    for name, layers in (("tiny", 2), ("other", 1)):
        model = random_model(block_size=256, n_layer=layers)
        save(home / "models" / name, model, CharTokenizer(CHARACTERS))
    terminal = Terminal(
        "tiny", "--seed", "1", "-n", "30", "--prompt", "to be", "--print", compiles=True
    )

    def press(*keys: str) -> None:
        for key in keys:
            terminal.child.send(key)

    def until(pattern: str) -> str:
        return terminal.until(lambda text: re.search(pattern, text))

    def leave(shown: str) -> None:
        """Esc, and wait: a key right behind it would be one with Alt."""
        press(ESCAPE)
        terminal.until(lambda text: shown not in text and "Sampling" in text)

    until("Done: 30 tokens")
    until(r"context 35/256")
    # Branch: a candidate of an early token, then back to what stood there, the tree, undo.
    press(TO_THE_TEXT, HOME, *[LEFT.replace("D", "C")] * 9)
    until(r"position 9")
    press("2")
    until(r"context 40/256")
    press(HOME, "]")
    until("no other branch")
    press(*[LEFT.replace("D", "C")] * 9, "]")
    until(r"context 35/256")
    press("m", "t")
    until(r"⚑")
    leave("⚑")
    # What the settings do, and what if they were others.
    press(F2)
    until("How each setting changes the probabilities")
    press(F2, "x")
    until("Banned ")
    press(F8)
    until(r"Same random seed; .*banned")
    leave("Same random seed")
    # Measures, forks, colours.
    press(F5)
    until(r"bits per byte, perplexity")
    leave("bits per byte")
    press(HOME, "u")
    until(r"position [1-9]")
    press("c")
    until("colour: rank")
    # Named continuations, another model, likely paths.
    press("k")
    until("Compare continuations")
    press("or not", "\r")
    until(r"or·not +[\d.e-]+")
    leave("Compare continuations")
    press("v")
    until("Second model")
    press(HOME, DOWN, "\r")
    until(r"KL\(tiny ‖ other\)\s+[\d.]+ bits a token")
    leave("disagreement")
    press("p")
    until("Likely continuations")
    leave("Likely continuations")
    press("e")
    until(r"output +\S+ +.*[\d<.]+ %")
    leave("logit lens")
    # Keep it and share it.
    press(F4)
    until("HTML.page")
    press(HOME, "\x0b", f"{tmp_path}/text.html", "\r")
    until("Wrote ")
    press(F3)
    until("1 of 1")
    leave("1 of 1")
    press("\x11")
    assert terminal.end() == 0
    assert "to be" in terminal.raw.rpartition("\x1b[?1049l")[2]
    assert "<!doctype html>" in (tmp_path / "text.html").read_text()
    assert len(list((home / "texts").glob("*.jsonl"))) == 1
