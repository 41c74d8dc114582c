"""The real program in a pseudo-terminal: what only a terminal shows."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpt.checkpoint import save
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model
from tests.convert.conftest import gpt2, saved
from tests.terminal import HEIGHT, KEYS, RESTORED, WIDTH, Terminal, comes, gone, terminals
from tui.store import entries

# All runs in other processes. Here only the screen is drawn, many times slower if that is traced.
pytestmark = pytest.mark.no_cover


@pytest.fixture
def start(tiny_directory: Path) -> Iterator[Callable[..., Terminal]]:
    yield from terminals("tiny")


def endless(start: Callable[..., Terminal], directory: Path) -> Terminal:
    """A program whose model writes and writes."""
    model = random_model(block_size=1_000_000, positions="rotary")
    save(directory, model, CharTokenizer(CHARACTERS))
    terminal = start("--prompt", "a", "-n", "1000000")
    terminal.until(lambda text: re.search(r"context \d{3,}/1000000", text))
    return terminal


def test_a_person_types_and_sees_tokens_arrive(start: Callable[..., Terminal]) -> None:
    terminal = start("--seed", "1", "-n", "12")
    terminal.until(lambda text: "Type an opening line" in text)
    terminal.child.send("to be")
    terminal.until(lambda text: "to be" in text)
    terminal.child.send("\r")
    terminal.shows(
        "Done: ",
        "context 17/32",
        r"perplexity \d+\.\d\d",
        r"P = [\d.]+ % +rank \d+",
        r"drawn with P = +[\d.]+ %",
        r"\d+ more ",
    )
    engine = terminal.engine()
    terminal.child.send("\x11")  # Ctrl-Q
    assert terminal.end() == 0
    assert RESTORED in terminal.raw
    assert gone(engine)


def test_what_is_typed_while_the_program_starts_is_sent(start: Callable[..., Terminal]) -> None:
    # The shell's terminal is not raw yet: it makes a line feed of Enter.
    terminal = start("--seed", "1", "-n", "12")
    terminal.child.send("to be\r")
    terminal.shows("Done: ", "context 17/32")
    assert "1 token:" not in terminal.text  # a line break in the prompt


def test_ctrl_c_stops_and_the_text_stays(
    start: Callable[..., Terminal], tiny_directory: Path
) -> None:
    terminal = endless(start, tiny_directory)
    terminal.child.send("\x03")
    before = terminal.until(lambda text: "Stopped" in text)
    terminal.child.send("bc")
    after = terminal.until(lambda text: "│ bc" in text)
    counts = [re.search(r"context (\d+)/", shown) for shown in (before, after)]
    assert counts[0] and counts[1] and counts[0][1] == counts[1][1]
    terminal.child.send("\x11")
    assert terminal.end() == 0


def test_branches_grow_at_once_and_one_is_stopped_alone(
    start: Callable[..., Terminal], tiny_directory: Path, home: Path
) -> None:
    wild = "temperature = 2.0\ntop_p = 1.0"  # so that the branches part soon
    (home / "settings.toml").write_text(f"[settings]\nbranches = 3\nseed = 3\n{wild}\n")
    terminal = endless(start, tiny_directory)
    terminal.child.send("\t")
    terminal.until(lambda text: "c colours" in text)
    terminal.child.send("t")
    rows = r"├ .* (\d\d+) · .*\n.*[├└] .* (\d\d+) · "  # two that have many tokens
    terminal.until(lambda text: bool(re.search(rows, text)))
    terminal.child.send(KEYS["end"])
    terminal.until(lambda text: "x stop this branch" in text)
    terminal.child.send("x")
    terminal.until(lambda text: "s star" in text and "Writing 3 branches" in text)
    terminal.child.send(KEYS["up"])
    terminal.until(lambda text: "x stop this branch" in text)
    terminal.child.send(KEYS["escape"])
    terminal.shows("Stopped", "branch 1 of 3")
    terminal.child.send("\x11")
    assert terminal.end() == 0


def test_turns_of_a_conversation(start: Callable[..., Terminal], tiny_directory: Path) -> None:
    letters = CharTokenizer(dict.fromkeys("Usert: Ain\nhobyda?cfgjklmpqv"))
    save(tiny_directory, random_model(block_size=256), letters)
    terminal = start("--chat", "--system", "be a cat", "-n", "5", "--prompt", "hi?")
    terminal.shows("Done: ", "be a cat", r"User: hi\?", "Assistant:")


def test_quitting_while_text_streams_is_quiet(
    start: Callable[..., Terminal], tiny_directory: Path
) -> None:
    terminal = endless(start, tiny_directory)
    engine = terminal.engine()
    terminal.child.send("\x11")
    assert terminal.end() == 0
    assert "Traceback" not in terminal.raw
    assert gone(engine)


def test_ctrl_c_after_the_end_changes_nothing(start: Callable[..., Terminal]) -> None:
    terminal = start()
    terminal.until(lambda text: "context 0/32" in text)
    terminal.press("ctrl+q")
    while RESTORED not in terminal.raw:
        assert terminal.read()
    terminal.child.delaybeforesend = None
    while terminal.is_alive():  # now the terminal makes a signal of Ctrl+C
        terminal.press("ctrl+c")
        terminal.read(0.02)
    assert terminal.end() == 0
    assert "Traceback" not in terminal.raw


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_leaves_the_terminal_as_it_was(start: Callable[..., Terminal], name: str) -> None:
    number = signal.Signals[name]
    terminal = start()
    terminal.until(lambda text: "context 0/32" in text)
    engine = terminal.engine()
    terminal.signal(number)
    assert terminal.end() == 128 + number
    assert RESTORED in terminal.raw
    assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.index("\x1b[?1049h")
    assert gone(engine)


def test_where_the_terminal_vanishes_the_text_is_kept_and_the_program_ends(
    start: Callable[..., Terminal], tiny_directory: Path
) -> None:
    terminal = endless(start, tiny_directory)
    engine = terminal.engine()
    terminal.child.ptyproc.fileobj.close()
    assert gone(terminal.child.pid)
    terminal.child.wait()
    assert terminal.child.exitstatus == 128 + signal.SIGHUP
    assert gone(engine)
    (kept,) = entries()
    assert kept.n_tokens >= 100


@pytest.mark.slow
def test_a_killed_engine_is_noticed_and_started_again(start: Callable[..., Terminal]) -> None:
    terminal = start("-n", "3", "--prompt", "abc")
    terminal.until(lambda text: "context 6/32" in text)
    os.kill(terminal.engine(), signal.SIGKILL)
    terminal.child.send("d\r")
    terminal.until(lambda text: "Press Ctrl+R to restart the engine" in text)
    terminal.until(lambda text: "ended by signal 9" in text)
    terminal.child.send("\x12\r")
    terminal.until(lambda text: "context 10/32" in text)


def test_hostile_text_never_reaches_the_terminal_raw(
    start: Callable[..., Terminal], tiny_directory: Path
) -> None:
    hostile = CHARACTERS[:20] + "\x1b\x07\x9b\u202e\u200b]0[/"
    save(tiny_directory, random_model(), CharTokenizer(hostile))
    terminal = start("--prompt", "a\x1b]0b\x07[/b]", "-n", "20", "--seed", "1")
    terminal.shows("Done: ", "context 30/32", re.escape("a␛]0b␇[/b]"))
    terminal.child.send("\x11")
    assert terminal.end() == 0
    assert "\x1b]0b" not in terminal.raw
    assert not {"\x9b", "\u202e", "\u200b"} & set(terminal.raw)


def test_a_hostile_prompt_is_harmless_in_its_field_and_in_the_error(
    start: Callable[..., Terminal],
) -> None:
    terminal = start("--prompt", "\x1b]0b\x9b\u202eZ")
    terminal.until(lambda text: "this model knows 29 characters" in text)
    terminal.until(lambda text: "│ ␛]0b��Z" in text)
    terminal.child.send("\x11")
    assert terminal.end() == 0
    assert "\x1b]0b" not in terminal.raw
    assert not {"\x9b", "\u202e"} & set(terminal.raw)


def test_without_a_terminal_it_points_to_the_pipe(tiny_directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tui"], capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 1
    assert b"python -m gpt complete --json" in done.stderr


def test_a_model_that_cannot_be_had_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    terminal = Terminal("no-such-model")
    assert terminal.end() == 1
    assert terminal.raw.startswith("there is no model 'no-such-model'; installed: shakespeare; ")
    assert "shakespeare; looking for it on the Hugging Face hub" in terminal.raw
    assert "error: no-such-model is not on this machine" in terminal.raw
    assert "Traceback" not in terminal.raw


def test_a_damaged_model_is_one_line(tiny_directory: Path) -> None:
    (tiny_directory / "manifest.json").write_text("{}")
    terminal = Terminal("tiny")
    assert terminal.end() == 1
    assert terminal.raw.startswith("error: cannot read ")
    assert terminal.raw.count("\n") == 1


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_checkpoint_of_transformers_is_converted_on_the_way(tmp_path: Path, answer: str) -> None:
    source = saved(gpt2(), tmp_path / "their-gpt2")
    terminal = Terminal(str(source), "--prompt", "hello", "-n", "3")
    # Without blanks, because a long path may break a line anywhere.
    asked = r"Convert.*\(0\.\dMB\)\?Themodeltakes.*\[Y/n\]"
    terminal.until(lambda text: re.search(asked, "".join(text.split())))
    terminal.child.send(answer + "\r")
    if answer == "n":
        assert terminal.end() == 1
        assert "error: nothing was converted" in terminal.raw
        assert not (tmp_path / "models").exists()
    else:
        terminal.shows("Done: ", "their-gpt2")
        terminal.child.send("\x11")
        assert terminal.end() == 0
        again = Terminal(str(source))
        again.until(lambda text: "context 0/48" in text)
        again.kill()


@pytest.mark.slow
def test_a_text_is_printed_on_leaving_and_opens_where_it_was(
    start: Callable[..., Terminal], tmp_path: Path
) -> None:
    terminal = start("--prompt", "to be", "--seed", "1", "-n", "12", "--print")
    terminal.until(lambda text: "Done: " in text)
    terminal.child.send("\x11")
    assert terminal.end() == 0
    printed = terminal.raw.rpartition(RESTORED)[2]
    assert "to be" in printed
    again = start("--last")
    again.shows("context 17/32", "to be", r"drawn with P = +[\d.]+ %")


def test_last_needs_a_text_that_was_saved(start: Callable[..., Terminal]) -> None:
    terminal = start("--last")
    assert terminal.end() == 1
    assert "no text was saved yet" in terminal.raw


@pytest.mark.slow
def test_the_prompt_goes_to_the_persons_editor_and_back(
    start: Callable[..., Terminal], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = tmp_path / "my editor"
    editor.write_text("#!/bin/sh\nprintf 'or not\\nto be\\n' >> \"$2\"\n")
    editor.chmod(0o755)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"'{editor}' --wait")
    terminal = start()
    terminal.until(lambda text: "context 0/32" in text)
    terminal.child.send("to be ")
    terminal.until(lambda text: "│ to be" in text)
    terminal.child.send("\x1b[18~")  # F7
    terminal.until(lambda text: "to be or not" in text and "│ to be   " in text)
    monkeypatch.setenv("EDITOR", "no-such-editor")
    terminal = start("--prompt", "é")
    terminal.until(lambda text: "not 'é'" in text)
    terminal.child.send("\x1b[18~")
    terminal.shows("no-such-editor did not work", "│ é ")


def test_the_window_may_change_while_text_streams(
    start: Callable[..., Terminal], tiny_directory: Path
) -> None:
    terminal = endless(start, tiny_directory)
    for size in ((1, 1), (5, 300), (100, 20), (3, 9), (60, 200), (HEIGHT, WIDTH)):
        before = len(terminal.raw)
        terminal.child.setwinsize(*size)
        while len(terminal.raw) < before + 1:
            assert terminal.read()
    terminal.child.send("\x03")
    terminal.until(lambda text: "Stopped" in text)
    terminal.child.send("\x11")
    assert terminal.end() == 0
    assert "Traceback" not in terminal.raw


@pytest.mark.slow
def test_hostile_names_files_and_settings_never_reach_the_terminal_raw(
    start: Callable[..., Terminal], tiny_directory: Path, home: Path
) -> None:
    hostile = "x\x1b]0;b\x07\x9b\u202e[b]"
    tiny_directory.rename(tiny_directory.with_name(hostile))
    save(tiny_directory, random_model(), CharTokenizer(CHARACTERS))
    (home / "settings.toml").write_text("theme = 'x\\u001b]0;c\\u0007'\n".replace("'", '"'))
    start("--prompt", "abc", "-n", "3").until(lambda text: "Done: " in text)
    assert comes(lambda: any((home / "texts").glob("*.jsonl")))  # it is kept after it is done
    (text,) = (home / "texts").glob("*.jsonl")
    head, _, tail = text.read_text().partition("\n")
    values = {**json.loads(head), "title": hostile, "model": hostile}
    text.with_name("other.jsonl").write_text(json.dumps(values) + "\n" + tail)
    (home / "texts" / "broken.jsonl").write_text(json.dumps(values) + "\n{")
    terminal = start("-n", "3")
    terminal.until(lambda text: "unknown theme" in text)
    for key, shown in (
        ("\x0f", "x␛]0;b␇"),  # Ctrl-O: the name of a directory
        ("\x1bOR", "x␛]0;b␇"),  # F3: a title, and opening it with its model
    ):
        terminal.child.send(key)
        terminal.shows(re.escape(shown))
        terminal.child.send("\x1b")
        terminal.hides(re.escape(shown))
    terminal.child.send("\x1bOR")
    terminal.until(lambda text: "3 of 3" in text)
    terminal.child.send("]0;b")
    terminal.until(lambda text: "2 of 3" in text)
    terminal.child.send("\r")
    terminal.until(lambda text: "broken" in text or "x␛]0;b␇" in text.splitlines()[0])
    terminal.child.send("\x11")
    assert terminal.end() == 0
    for raw in ("\x1b]0;b", "\x1b]0;c", "\x9b", "\u202e"):
        assert raw not in terminal.raw
