"""The real program in front of a real llama.cpp server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.gpt.endless_gguf import POSITIONS, endless_gguf
from tests.gpt.llama_server import LlamaServer
from tests.terminal import Terminal, children, needs_pty, terminals

pytest.importorskip("xllamacpp")
pytestmark = [needs_pty, pytest.mark.slow]  # test_server_screens.py has the same in one process

KEY = "sk-of-these-tests"
LONG = "900"
"""Tokens of a run that is still going on when something happens to its server."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return endless_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture
def server(file: Path) -> Iterator[LlamaServer]:
    server = LlamaServer(file, context=POSITIONS)
    yield server
    server.kill()


@pytest.fixture
def locked(file: Path) -> Iterator[LlamaServer]:
    server = LlamaServer(file, key=KEY)
    yield server
    server.kill()


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Terminal]]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TEST_KEY", KEY)
    yield from terminals()


def n_tokens(text: str) -> int:
    """Number of tokens of the text on a screen."""
    found = re.search(r"context (\d+)/", text)
    return int(found[1]) if found else 0


def test_a_text_a_branch_and_a_server_that_dies(
    start: Callable[..., Terminal], server: LlamaServer
) -> None:
    terminal = start("--server", server.url, "--prompt", "hello", "-n", LONG, "--seed", "1")
    terminal.shows(r"tiny .* llama\.cpp server at 127\.0\.0\.1", "Writing")
    terminal.press("escape")
    terminal.shows("Stopped")
    terminal.press("tab")
    terminal.shows("drawn with P", "1-9 take")
    terminal.press("e")
    terminal.shows("does not show its insides")
    terminal.press("left", "left", "2")
    terminal.shows("Writing")
    server.kill()
    terminal.shows(r"(ended the connection|[Cc]annot reach).*Ctrl\+G continues", "branch 2 of 2")
    written = n_tokens(terminal.text)
    server.start()
    terminal.press("ctrl+g")
    terminal.until(lambda text: n_tokens(text) > written)
    terminal.press("escape")
    terminal.shows("Stopped|Done")  # once the messages before it are gone
    terminal.press("ctrl+o")
    terminal.shows("Server +llama.cpp", "Address", "Probe again")
    terminal.press("p")
    terminal.shows(r"tiny .* llama\.cpp server at")
    assert terminal.quit() == 0


def test_a_model_of_this_machine_reads_the_text_of_a_server(
    start: Callable[..., Terminal], server: LlamaServer, tmp_path: Path
) -> None:
    (tmp_path / "text.txt").write_text("hello there")
    terminal = start("--server", server.url, "--score", str(tmp_path / "text.txt"))
    terminal.shows("perplexity", "hello there")
    terminal.press("tab", "v")
    terminal.shows("Second model", "shakespeare")
    terminal.press("home", "enter")
    terminal.shows(r"tiny@\S+: [\d.]+ bits", r"shakespeare: [\d.]+ bits", "perplexity")
    terminal.press("escape")
    assert terminal.quit() == 0


def test_a_key_is_seen_nowhere(
    start: Callable[..., Terminal], locked: LlamaServer, home: Path
) -> None:
    (home / "settings.toml").write_text(
        f'[servers.gpu]\nurl = "{locked.url}"\napi_key_env = "TEST_KEY"\n'
    )
    terminal = start("@gpu", "--prompt", "hello", "-n", "3")
    terminal.shows("Done: 3 tokens")
    processes = [terminal.child.pid, *children(terminal.child.pid)]
    for each in processes:
        arguments = Path(f"/proc/{each}/cmdline")
        if arguments.exists():
            assert KEY.encode() not in arguments.read_bytes()
    assert terminal.quit() == 0
    texts = [path for path in home.rglob("*") if path.is_file()]
    assert any("tiny@gpu" in path.read_text() for path in texts)
    assert not any(KEY in path.read_text() for path in texts)
    assert KEY not in terminal.raw
    again = start("--last")
    again.shows("llama.cpp server at", r"context \d+")
    assert again.quit() == 0


def test_a_server_that_wants_a_key_says_so(
    start: Callable[..., Terminal], locked: LlamaServer
) -> None:
    terminal = start("--server", locked.url)
    terminal.shows("wants a key", "--api-key-env")
    assert terminal.quit() == 0


def test_plain_http_to_another_machine_is_asked_once(
    start: Callable[..., Terminal], server: LlamaServer, home: Path
) -> None:
    url = f"http://0.0.0.0:{server.port}"  # this machine under a name that does not say so
    refused = start("--server", url)
    refused.shows("is another machine", r"\[y/N\]")
    refused.press("enter")
    refused.shows("not encrypted: others on")
    assert refused.end() == 1
    allowed = start("--server", url)
    allowed.shows(r"\[y/N\]")
    allowed.press("y", "enter")
    allowed.shows(r"tiny .*llama\.cpp server at 0\.0\.0\.0")
    assert allowed.quit() == 0
    assert 'plain_http = ["0.0.0.0"]' in (home / "settings.toml").read_text()
    again = start("--server", url)
    again.shows(r"tiny .*llama\.cpp server at 0\.0\.0\.0")
    assert again.quit() == 0
