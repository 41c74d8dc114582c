from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import pexpect
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.widgets import DataTable

from gpt.step import Step
from tests.terminal import Terminal, needs_pty
from tests.tui.fake import FakeBackend, app_with, main_screen, running
from tests.tui.test_app import until_written
from tui.measure import by_line, measure
from tui.screens.lines import LinesScreen
from tui.widgets.token_view import TokenView


def step(text: str, logprob: float | None = -1.0) -> Step:
    return Step(0, 0, text.encode(), text, logprob)


def test_a_line_has_its_own_bits_bytes_and_perplexity() -> None:
    steps = [step("a", None), step("é", -1), step("\n", -2), step("bc", -0.5), step("d", -1.5)]
    first, second = by_line(steps)
    assert (first.first, second.first) == (0, 3)
    assert (first.text, second.text) == ("aé\n", "bcd")
    assert (first.n_tokens, first.n_bytes) == (2, 3)  # the first token has no context
    assert first.bits == pytest.approx(3 / math.log(2))
    assert first.bits_per_byte == pytest.approx(1 / math.log(2))
    assert second.perplexity == pytest.approx(math.e)
    assert measure([step("a", None)]).perplexity is None
    assert measure([step("a", None)]).bits_per_byte is None


@given(st.lists(st.tuples(st.sampled_from(["a", "\n", "b\nc", "é"]), st.floats(-9, 0))))
def test_lines_add_up_to_the_whole(tokens: list[tuple[str, float]]) -> None:
    steps = [step(text, logprob) for text, logprob in tokens]
    lines, whole = by_line(steps), measure(steps)
    assert "".join(line.text for line in lines) == whole.text
    assert math.fsum(line.nats for line in lines) == pytest.approx(whole.nats)
    assert sum(line.n_tokens for line in lines) == whole.n_tokens


async def test_a_text_is_read_and_its_lines_lead_back_into_it() -> None:
    app = app_with(FakeBackend(), score="ab\ncdef\n[g]")
    async with running(app) as pilot:
        screen = main_screen(app)
        await until_written(pilot, screen)
        assert screen.document.text == "ab\ncdef\n[g]"
        assert all(node.is_prompt for node in screen.document.path)
        assert screen.query_one(TokenView).index == 0
        await pilot.press("f5")
        assert isinstance(app.screen, LinesScreen)
        table = app.screen.query_one(DataTable)
        assert table.row_count == 3
        assert [str(cell) for cell in table.get_row_at(2)][-1] == "[g]"
        await pilot.press("down", "down", "enter")
        assert screen.query_one(TokenView).index == 4  # the fake's tokens have two characters


def test_a_text_is_piped_in_and_the_keys_come_from_the_terminal(
    tiny_directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("to be\nor not")
    program = f"{sys.executable} -m tui tiny --no-compile --score - < {tmp_path / 'text'}"
    terminal = Terminal("-c", program, program="/bin/sh")
    terminal.until(lambda text: "nothing to predict it from" in text and "Enter sends" in text)
    terminal.child.send("\x1b[15~")  # F5
    terminal.until(
        lambda text: "11 tokens, 11 bytes" in text and "Each line, scored by the model" in text
    )
    terminal.child.send("\x11")
    assert terminal.end() == 0


@needs_pty
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"\xff", "is not UTF-8 text"), (None, "cannot read")],
)
def test_what_cannot_be_scored_is_one_sentence(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "text"
    if content is not None:
        path.write_bytes(content)
    command = ["-m", "tui", "--score", str(path)]
    environment = {**os.environ, "TERM": "xterm"}
    child = pexpect.spawn(sys.executable, command, env=environment, encoding="utf-8")
    child.expect(f"error: .*{message}")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1
