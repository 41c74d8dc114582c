"""Keeping what was written, in the real program: a name for a branch, a file for a friend."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.marks import slow_but
from tests.terminal import SIZES
from tests.tui.test_window import Start, start

__all__ = ["start"]
pytestmark = pytest.mark.no_cover


@pytest.mark.parametrize("size", slow_but(SIZES, (80, 24)), ids=str)
def test_a_branch_gets_a_star_and_a_name_and_is_exported(
    start: Start, size: tuple[int, int], tmp_path: Path
) -> None:
    terminal = start("--prompt", "to be", "-n", "12", size=size)
    terminal.shows(r"Done: \d+ tokens?")
    terminal.press("ctrl+t")
    terminal.shows("s star")
    terminal.press("n", "q[b]z")
    terminal.shows(re.escape("q[b]z"), "Esc cancels")
    terminal.shows_cursor_after("q[b]z")
    terminal.press("enter", "s")
    terminal.shows(r"★ q\[b\]z: to be")
    terminal.press("f4")
    terminal.shows("HTML.page", "Starred:.1", "Enter exports")
    terminal.press("qz")
    terminal.shows(r"/qz\.html")
    terminal.press("enter")
    terminal.shows("Wrote")
    assert "★ q[b]z" in (tmp_path / "qz.html").read_text()
    assert terminal.quit() == 0
