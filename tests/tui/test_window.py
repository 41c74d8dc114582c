"""What a person meets in the first hour, through the window that they look through."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpt.checkpoint import save
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model
from tests.marks import slow_but
from tests.terminal import KEYS, RESTORED, SIZES, Terminal, comes, gone, terminals

# All runs in other processes. Here only the screen is drawn, many times slower if that is traced.
pytestmark = [pytest.mark.no_cover, pytest.mark.slow]

Start = Callable[..., Terminal]
READY = r"context \d+/"


@pytest.fixture
def start(tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)  # where exports land
    save(tiny_directory, random_model(block_size=512), CharTokenizer(CHARACTERS))
    yield from terminals("tiny", "--seed", "1")


def written(start: Start, size: tuple[int, int] = SIZES[0]) -> Terminal:
    """A short text, with the cursor in it."""
    terminal = start("--prompt", "to be", "-n", "12", size=size)
    terminal.shows(r"Done: \d+ tokens?")
    to_the_text(terminal)
    return terminal


def to_the_text(terminal: Terminal) -> None:
    """From the prompt, until the last line shows the keys of the text."""
    terminal.press("tab")
    terminal.shows("colours|all keys")


def endless(directory: Path, start: Start) -> Terminal:
    """A model that writes and writes."""
    model = random_model(block_size=1_000_000, positions="rotary")
    save(directory, model, CharTokenizer(CHARACTERS))
    terminal = start("--prompt", "a", "-n", "1000000")
    terminal.shows(r"context \d{3,}/1000000")
    return terminal


def test_a_paste_arrives_once_with_line_breaks_of_any_system(start: Start) -> None:
    terminal = start("-n", "3")
    terminal.shows(READY)
    terminal.paste("zebra\r\nquartz\rjackdaw\x1b]0;x\x07\x1b[31m")
    terminal.shows("jackdaw")
    lines = [line for line in terminal.text.splitlines() if re.search("zebra|quartz|jackdaw", line)]
    assert [re.search("zebra|quartz|jackdaw", line)[0] for line in lines] == [  # type: ignore[index]
        "zebra",
        "quartz",
        "jackdaw",
    ]
    assert "\x1b]0;x" not in terminal.raw


def test_what_is_pasted_into_the_text_goes_into_the_prompt(start: Start) -> None:
    terminal = written(start)
    terminal.shows("take")  # the keys of the text
    terminal.paste("zebra\r\nquartz")
    terminal.until(lambda text: text.count("zebra") == text.count("quartz") == 1)
    terminal.shows("Enter send")


@pytest.mark.slow
def test_a_paste_of_a_megabyte_and_one_while_the_model_writes(
    start: Start, tiny_directory: Path
) -> None:
    terminal = endless(tiny_directory, start)
    terminal.paste("to be or not " * 80_000 + "zzz")
    terminal.shows(r"zzz")
    terminal.press("ctrl+c")
    terminal.shows("Stopped")
    assert terminal.quit() == 0


FIELDS = {"/": "/", "export": "f4", "texts": "f3", "options": "k", "commands": "ctrl+p"}


@pytest.mark.parametrize("size", slow_but(SIZES, (80, 24)), ids=str)
def test_every_field_shows_what_is_typed_and_pasted_and_its_cursor(
    start: Start, size: tuple[int, int]
) -> None:
    terminal = written(start, size)
    for key in FIELDS.values():
        before = terminal.text
        terminal.press(key)
        terminal.changes(before)
        terminal.press("qz")
        terminal.shows("qz")
        terminal.paste("xj\x1b[31mk\r\nand\rmore")
        pasted = "qzxj[31mk and more"
        terminal.shows(re.escape(pasted))
        terminal.shows_cursor_after(pasted)
        terminal.press("escape")
        terminal.hides("qzxj")
    assert terminal.quit() == 0


def test_dials_show_what_is_typed(start: Start) -> None:
    terminal = written(start)
    terminal.press("tab")
    terminal.shows("→ more")
    for label in ("temperature", "top-k", "top-p", "min-p", "repetition", "seed", "length"):
        terminal.press("end", *["backspace"] * 4, "7")
        terminal.shows(rf"{label} [ ─●○▶]*7 ")
        terminal.press("tab")


def test_a_dialog_that_is_answered_twice_leaves_the_program_running(start: Start) -> None:
    terminal = written(start)
    for key in ("f4", "/", "t", "f5", "ctrl+l", "f3"):
        terminal.storm(KEYS.get(key, key) + "\r\r\r")  # the dialog and its answers in one write
        terminal.shows("Sampling", "F1 help")
    assert terminal.quit() == 0
    assert "Traceback" not in terminal.raw


def test_bytes_that_are_not_utf_8_are_replaced_and_nothing_else_is_lost(start: Start) -> None:
    terminal = start()
    terminal.shows(READY)
    terminal.child.ptyproc.write(b"\x1b[200~caf\xe9 au lait\x1b[201~")
    terminal.shows("caf\ufffd au lait")
    terminal.child.ptyproc.write(b"\xff\xfez\xc3")
    terminal.shows("caf\ufffd au lait\ufffd\ufffdz")
    terminal.child.ptyproc.write(b"\x1b[<" + b"9" * 100 + b";1;1M")
    terminal.press("abc")
    terminal.shows("abc")
    assert terminal.quit() == 0
    assert "Traceback" not in terminal.raw


@pytest.mark.parametrize("columns", slow_but(["99999", "-5"], "99999"))
def test_an_absurd_width_is_not_believed(start: Start, columns: str) -> None:
    terminal = start(environment={"COLUMNS": columns})
    terminal.shows("gpt-tui")
    terminal.storm("\x1b[48;1000000000;1000000000;9;9t")
    terminal.press("abc")
    assert terminal.quit() == 0


def test_colours_of_one_path_do_not_stay_on_another(start: Start) -> None:
    terminal = written(start)
    terminal.press("E")
    terminal.shows("Influence on")
    terminal.press("2")
    terminal.shows("Text · colour: probability")
    terminal.hides("Influence on")


def test_what_if_returns_to_the_text_that_was_there(start: Start) -> None:
    terminal = written(start)
    text = re.search(r"│ (to be\w*)", terminal.text)
    assert text
    terminal.press("x")  # the last token, so the other text must differ
    terminal.shows("Banned")
    terminal.press("home", "f8")
    terminal.shows("Same random seed")
    terminal.press("escape")
    terminal.shows("is now a branch", re.escape(text[1]) + " ")


def test_keys_that_come_with_tab_act_in_the_text(start: Start) -> None:
    terminal = written(start)
    terminal.press("end", "escape")
    terminal.shows("Enter send")
    terminal.hides("position 0")
    terminal.child.send("\t\x1b[H")
    terminal.shows("position 0")
    for _ in range(5):
        terminal.press("escape")
        terminal.shows("Enter send")
        terminal.child.send("\tv")
        terminal.shows("Second model")
        terminal.press("escape")
        terminal.hides("Second model")


def test_the_settings_show_the_numbers_of_the_token(start: Start) -> None:
    terminal = written(start)
    terminal.press("f2")
    shown = terminal.shows("How each setting changes the probabilities", "tokens left")
    own = re.search(r"P = +([\d.<>]+ %)", shown)
    after = re.search(r"drawn with P = +([\d.<>]+ %)", shown)
    assert own and after
    row = next(line for line in shown.splitlines() if re.match(r"│.?▸", line))
    assert own[1] in row and after[1] in row


def test_what_cannot_be_done_while_the_model_writes_is_said(
    start: Start, tiny_directory: Path
) -> None:
    terminal = endless(tiny_directory, start)
    to_the_text(terminal)
    terminal.press("e")
    terminal.shows("still at work; Esc stops it")
    terminal.press("ctrl+c")
    terminal.shows("Stopped")


def test_a_new_text_has_no_speed_and_an_empty_dial_says_so(start: Start) -> None:
    terminal = written(start)
    terminal.shows("tokens/s")
    terminal.press("ctrl+n")
    terminal.hides("tokens/s|first after")
    terminal.press("tab", "tab")
    terminal.shows("→ more")
    terminal.press("end", *["backspace"] * 4)
    terminal.shows("temperature [ ─●○]*missing", "temperature is ''; it must be a number")


def test_a_prompt_that_was_sent_is_not_counted_any_more(start: Start) -> None:
    terminal = written(start)
    terminal.press("escape")
    terminal.shows("Enter send")
    terminal.press("or not")
    terminal.shows(" 6 tokens: o r · n o t")
    to_the_text(terminal)
    terminal.press("ctrl+g")
    terminal.hides(" 6 tokens: ")
    terminal.shows("context 3[0-9]/512", r"Done: \d+ tokens?")
    assert " 6 tokens: " not in terminal.text


def test_a_wrong_boost_is_named_while_it_is_typed(start: Start) -> None:
    terminal = written(start)
    column, row = terminal.place("boosted")
    terminal.click(column + 13, row)
    terminal.until(lambda _: terminal.has_cursor(column + 12, row))
    terminal.press("king")
    terminal.shows("boosted is 'king'; it must be a word, a colon")


def test_the_palette_saves_a_picture_or_says_why_not(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    terminal = written(start)
    terminal.press("ctrl+p")
    terminal.press("screenshot")
    terminal.shows("Save a picture")
    terminal.press("enter")
    terminal.shows("Wrote ")
    (picture,) = place.glob("gpt-tui-*.svg")
    assert "<svg" in picture.read_text()
    shutil.rmtree(place)
    terminal.press("ctrl+p")
    terminal.press("screenshot")
    terminal.shows("Save a picture")
    terminal.press("enter")
    terminal.shows("Cannot write gpt-tui-")
    assert terminal.quit() == 0


def test_help_closes_with_escape_and_opens_everywhere(start: Start) -> None:
    terminal = written(start)
    terminal.press("f1")
    terminal.shows("Type to find a key")
    terminal.press("escape")
    terminal.hides("Type to find a key")
    terminal.press("f5")
    terminal.shows("bits per byte")
    terminal.press("f1")
    terminal.shows("Type to find a key")
    terminal.press("escape")
    terminal.hides("Type to find a key")
    terminal.shows("bits per byte")
    terminal.press("escape")
    terminal.hides("bits per byte")
    assert terminal.quit() == 0


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"TERM": "dumb"}, "TERM is 'dumb'"),
        ({"PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1"}, "the terminal's encoding is"),
    ],
)
def test_a_terminal_that_cannot_show_it_is_one_sentence(
    environment: dict[str, str], said: str, start: Start
) -> None:
    terminal = start(environment=environment)
    assert terminal.end() == 1
    assert terminal.raw.startswith("error: ")
    assert said in terminal.raw
    assert terminal.raw.count("\n") == 1


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP"])
def test_a_signal_in_the_first_moments_leaves_nothing_behind(name: str, start: Start) -> None:
    number = signal.Signals[name]
    terminal = start()
    terminal.until(lambda _: "\x1b[?1049h" in terminal.raw)
    engine = terminal.engine()
    terminal.signal(number)
    assert terminal.end() == 128 + number
    assert RESTORED in terminal.raw
    assert "Traceback" not in terminal.raw
    assert gone(engine)


ENGINE = """
import json, sys
print(json.dumps({"id": None, "event": "hello"}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if request["op"] == "load":
        loaded = {"id": request["id"], "event": "loaded", "name": "half", "device": "cpu"}
        loaded |= {"dtype": "float32", "manifest": {"n_params": 1}}
        loaded |= {"config": {"vocab_size": 9, "block_size": 99}, "notice": ""}
        print(json.dumps(loaded), flush=True)
    elif request["op"] == "generate":
        print('{"id": %d, "event": "steps", "ste' % request["id"], end="", flush=True)
        sys.exit(3)
"""
PROGRAM = """
import sys
sys.path.insert(0, {here!r})
import tui.__main__ as program
from functools import partial
program.LocalBackend = partial(program.LocalBackend, engine="half_an_engine")
program.main({arguments!r})
"""


def test_an_engine_that_dies_in_the_middle_of_a_line_is_noticed_and_started_again(
    tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_an_engine.py").write_text(ENGINE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(here=str(tmp_path), arguments=["tiny", "-n", "3"]))
    terminal = Terminal(str(program), program=sys.executable)
    for _ in range(2):
        terminal.shows("half · context")
        terminal.press("abc", "enter")
        terminal.shows("Press Ctrl\\+R to restart the engine", "ended with status 3")
        terminal.press("ctrl+r")
        terminal.hides("Press Ctrl\\+R to restart")
    assert terminal.quit() == 0
    assert "Traceback" not in terminal.raw


def test_esc_stops_the_reading_of_a_long_text(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("to be or not " * 20_000)
    terminal = start("--score", str(path))
    terminal.shows(r"reading .*Esc stops")
    terminal.press("escape")
    terminal.shows("the rest of the text was not read")
    assert terminal.quit() == 0


def test_ctrl_c_in_training_prints_each_line_once(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("she sells sea shells by the sea shore. " * 40)
    options = "--n-layer 1 --n-embd 32 --n-head 2 --n-inner 64 --block-size 32 --batch-size 4"
    command = ["-m", "gpt", "train", "--data", str(text), "--out", str(tmp_path / "out")]
    more = ["--steps", "100000", "--eval-every", "100000", "--no-compile", *options.split()]
    terminal = Terminal(*command, *more, program=sys.executable)
    terminal.shows(r"step \d\d+")
    terminal.press("ctrl+c")
    assert terminal.end() == 130
    assert len(re.findall(r"step \d+ ", terminal.text)) == 1
    assert "^C" not in terminal.text
    assert json.dumps("stopped after")[1:-1] in terminal.text
    assert comes(lambda: (tmp_path / "out.run" / "state.pt").exists())


def test_a_key_right_after_quitting_opens_nothing(start: Start) -> None:
    terminal = written(start)
    terminal.storm(KEYS["ctrl+q"] + KEYS["f5"] + KEYS["f4"])
    assert terminal.end() == 0
    assert "Traceback" not in terminal.raw
