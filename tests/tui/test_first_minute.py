"""The first minute of a person who has read nothing, typed into a real terminal."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpt.checkpoint import save
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model
from tests.marks import slow_but
from tests.terminal import SIZES, Terminal, needs_pty, terminals

pytestmark = needs_pty
Start = Callable[..., Terminal]


@pytest.fixture
def start(tiny_directory: Path, home: Path) -> Iterator[Start]:
    save(tiny_directory, random_model(block_size=512), CharTokenizer(CHARACTERS))
    yield from terminals("tiny", "--seed", "1", "-n", "12")


@pytest.mark.parametrize("size", slow_but([*SIZES, (200, 60)], (80, 24)), ids=str)
def test_from_an_opening_line_to_a_changed_token_and_back(
    start: Start, size: tuple[int, int]
) -> None:
    terminal = start(size=size)
    terminal.shows("Enter +Once upon a time", "Your text|Type an opening line", "F1 help")
    terminal.press("down", "down")
    terminal.shows("Enter +Dear diary, today I")
    terminal.press("to be")
    terminal.hides("Once upon a time")
    terminal.shows("5 tokens: t o · b e")
    terminal.press("enter")
    terminal.shows(r"Done: 12 tokens")
    terminal.press("tab", "home", *["right"] * 5)
    shown = terminal.shows("position 5", r"P = [\d.<>]+ %", r"rank \d+", "1-9 take")
    assert re.search(r"1[ ▸]\S+ +█", shown) and re.search(r"2[ ▸]\S+ ", shown)
    terminal.press("2")
    terminal.shows("branch 2 of 2", "Done: 12 tokens")
    terminal.press("home", *["right"] * 5, "[")
    terminal.shows("branch 1 of 2")
    terminal.press("i")
    terminal.shows("Replace")
    terminal.press("xy", "enter")
    terminal.shows("to bexy", "branch 3 of 3", "Done: 12 tokens")
    terminal.press("e")
    terminal.shows("output", "P\\(", "╭─ Attention of layer")
    terminal.press("escape")
    terminal.shows("position", "╭─ Text · colour: probability")
    terminal.press(" ")
    terminal.shows("All keys", "Change")
    terminal.press("escape")
    terminal.hides("All keys")
    terminal.press("escape")
    terminal.shows("Enter send")
    assert terminal.quit() == 0


@pytest.mark.slow
def test_dials_move_the_bars_at_once_and_leave_the_old_ones(start: Start) -> None:
    terminal = start("--prompt", "to be")
    terminal.shows(r"Done: 12 tokens")
    terminal.press("tab", "home", *["right"] * 6)
    terminal.shows("position 6", "after sampling")
    terminal.press("tab", *["right"] * 6)
    terminal.shows("temperature [─○●]* 1.4", "these settings", "░")
    terminal.press(*["left"] * 6)
    terminal.shows("temperature [─●]* 0.8", "after sampling")


@pytest.mark.slow
def test_letters_begin_a_text_and_fields_say_what_they_take(start: Start) -> None:
    terminal = start(size=(120, 40))
    terminal.shows("Type an opening line", "F1 help")
    terminal.press("tab", "to be", "enter")
    terminal.shows("to be", "Done: 12 tokens")
    terminal.press("tab", "home", "right", "x")
    terminal.shows('banned +"o"', 'Banned "o", in this and other texts', "1 banned")
    terminal.press("tab", "k")
    terminal.shows("Temperature takes a number")
    terminal.press("300")
    terminal.shows("temperature .* 300 ", "must be a number from 0")
    terminal.press("escape")
    terminal.shows(r"temperature [─●]* 0.8", "It stays 0.8")
    assert terminal.quit() == 0


def test_candidates_sliders_tabs_and_hints_take_the_mouse(start: Start) -> None:
    terminal = start("--prompt", "to be")
    terminal.shows(r"Done: 12 tokens")
    terminal.click(*terminal.place("Layers"))
    terminal.shows("logit lens")
    terminal.click(*terminal.place("Token "))
    terminal.shows("after sampling")
    column, row = terminal.place("temperature")
    terminal.click(column + 14, row)
    terminal.hides("temperature [─●○]* 0.8")
    column, row = terminal.place("2 h")
    terminal.click(column, row)
    terminal.shows("branch 2 of 2", "Done")
    terminal.click(*terminal.place("effects"))
    terminal.shows("How each setting changes")
    terminal.press("ctrl+n")
    terminal.shows("Once upon a time")
    terminal.click(*terminal.place("The capital of France"))
    terminal.shows("The capital of France is")
    assert terminal.quit() == 0


@pytest.mark.slow
def test_presenter_mode_asks_before_it_answers(start: Start) -> None:
    terminal = start("--prompt", "to be")
    terminal.shows(r"Done: 12 tokens")
    terminal.press("tab", "P")
    terminal.shows("The model's probabilities")
    terminal.hides("temperature")
    terminal.press(" ")
    terminal.shows("What comes next?", "Space")
    terminal.press(" ")
    terminal.shows("The model's probabilities", "▸ .*█")
    terminal.press("escape")
    terminal.shows("temperature", "context 18/512")


def test_a_text_is_opened_again_where_it_was_left_and_keys_never_go_to_a_hidden_field(
    start: Start,
) -> None:
    terminal = start(size=(80, 24))
    terminal.shows("Type an opening line", "F1 help")
    terminal.press("tab", ".", "tab")
    terminal.shows("temperature .*0.8")
    terminal.press("right", "right", "0.5")
    terminal.shows("temperature .* 0.5 ")
    terminal.press("escape")
    terminal.shows("No token yet", "Enter send")
    terminal.press("to be")
    terminal.shows("5 tokens: t o · b e")
    terminal.press("enter")
    terminal.shows("Done: 12 tokens")
    terminal.press("tab", "home", *["right"] * 5)
    terminal.shows("position 5", "1-9 take")
    terminal.press("escape")
    terminal.shows("Letters go here now")
    assert terminal.quit() == 0
    again = start("--last", size=(80, 24))
    again.shows("position 5", "to be")
    again.press("tab", ".")
    again.shows("temperature .*0.5")
    assert again.quit() == 0
