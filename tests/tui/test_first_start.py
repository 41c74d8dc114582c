"""The program in a home whose files are nonsense: it starts, says what is wrong, and is usable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.terminal import Terminal, terminals

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files there")


@pytest.fixture
def start(tiny_directory: Path) -> Iterator[Callable[..., Terminal]]:
    yield from terminals("tiny")


def test_a_home_full_of_nonsense_is_a_sentence_for_each(
    start: Callable[..., Terminal], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "texts").mkdir()
    os.mkfifo(home / "texts" / "pipe.jsonl")
    (home / "settings.toml").write_text("x = " + "[" * 10_000 + "]" * 10_000)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "'")
    terminal = start("--last")
    wanted, seen = {"defaults", "pipe.broken"}, set[str]()

    def sees_both(text: str) -> bool:  # on a slow machine one may be gone before the other comes
        seen.update(each for each in wanted if each in text)
        return seen == wanted

    terminal.until(sees_both)
    terminal.press("f7")
    terminal.shows("EDITOR")
    terminal.press("ab", "enter")
    terminal.shows(r"context [1-9]\d*/32")
    assert terminal.quit() == 0


def test_settings_that_are_a_pipe_do_not_keep_the_program_waiting(
    start: Callable[..., Terminal], home: Path
) -> None:
    os.mkfifo(home / "settings.toml")
    terminal = start()
    terminal.shows("regular")
    assert terminal.quit() == 0
