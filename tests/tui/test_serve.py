"""The program in a person's own browser, and its end."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gpt.errors import UserError
from tests.chromium import chromium, needs_chromium
from tests.serving import ECHO, STUBBORN, Served, Tab, serving, start_servers, tab
from tests.terminal import PATIENCE, children, comes, gone
from tui import serve, store
from tui.served import export_path


@pytest.fixture
def start(tiny_directory: Path) -> Iterator[Callable[..., Served]]:
    yield from start_servers()


@pytest.fixture
def served(start: Callable[..., Served]) -> Served:
    return start("--no-open")


pytestmark = pytest.mark.slow
needs_processes = pytest.mark.skipif(
    os.name != "posix", reason="Windows has neither POSIX signals nor a list of processes"
)


async def test_a_tab_has_focus_and_footer_and_writes_without_a_click(served: Served) -> None:
    async with tab(served.url) as browser:
        await browser.shows("Type an opening line", "context 0/32", "Enter send", "F1 help")
        await browser.press("to be")
        await browser.shows("to be")
        await browser.press("enter")
        await browser.shows("context 32/32")


@needs_chromium
async def test_chromium_writes_a_text_without_a_click(served: Served, tmp_path: Path) -> None:
    async with chromium(tmp_path / "profile") as page:
        await page.open(served.url)
        await page.shows("Type an opening line", "context 0/32", "Enter send", "F1 help")
        before = await page.picture()
        await page.type("to be\r")
        await page.shows("to be", "context 32/32")
        picture = Image.open(io.BytesIO(await page.picture())).convert("RGB")
        assert picture.tobytes() != Image.open(io.BytesIO(before)).convert("RGB").tobytes()
        colours = picture.getcolors(1 << 24) or []
        assert len(colours) > 50, "an empty page"
        here = served.url.split("/")[2]
        assert {url.split("/")[2] for url in page.requested} == {here}, "a page from elsewhere"


async def test_a_path_is_not_for_export_and_an_editor_not_for_a_browser(
    served: Served, tmp_path: Path
) -> None:
    async with tab(served.url) as browser:
        await browser.shows("context 0/32")
        await browser.press("to be", "enter")
        await browser.shows("context 32/32")

        async def refused(name: str, answer: str) -> None:
            await browser.press("f4")
            await browser.shows("File, in the directory")
            await browser.press("home", *["delete"] * 40, name, "enter")
            await browser.shows(answer, "File, in the directory", name[-20:])  # it asks again
            await browser.press("escape")
            await browser.hides("File, in the directory")

        await browser.press("f7")
        await browser.shows("An editor needs a terminal")
        await refused(str(tmp_path / "outside.txt"), "directories")
        await refused("~nobody/outside.txt", "directories")
        await refused(f"{'x' * 300}.txt", "long")  # "too" may be on the line above
        await browser.press("f4")
        await browser.shows("File, in the directory")
        await browser.press("home", *["delete"] * 40, "inside.txt", "enter")
        await browser.shows("Wrote")
    assert [path.parent for path in tmp_path.rglob("*side.txt")] == [store.home()]
    assert (store.home() / "inside.txt").read_text().startswith("to be")


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("./\\~:\0"), max_size=8))
def test_no_name_leads_out_of_the_directory_of_texts(name: str) -> None:
    with suppress(UserError):
        assert Path(os.path.normpath(export_path(name))).parent == store.home()


def test_the_browser_is_opened_at_the_address(start: Callable[..., Served], tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > "{opened}.new"\nmv "{opened}.new" "{opened}"\n')
    browser.chmod(0o700)
    url = start(BROWSER=str(browser)).url
    assert comes(opened.exists)
    assert opened.read_text().strip() == url


def test_a_port_that_is_taken_is_one_sentence(tiny_directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "tui", "tiny", "--serve", "--no-open", "--port", number],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: cannot listen on port {number}")
    assert done.stderr.count("\n") == 1


# What a browser has started ends with it.


async def leave(browser: Tab) -> None:
    await browser.socket.close()


async def vanish(browser: Tab) -> None:
    browser.socket._writer.transport.abort()


@needs_processes
@pytest.mark.parametrize("go", [leave, vanish])
async def test_program_and_engine_end_with_their_browser(served: Served, go: Any) -> None:
    async with tab(served.url) as browser:
        await browser.shows("context 0/32")
        (program,) = children(served.process.pid)
        (engine,) = children(program)
        await go(browser)
        assert await asyncio.to_thread(gone, program)
        assert await asyncio.to_thread(gone, engine)
    assert served.process.poll() is None


@needs_processes
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
async def test_program_and_engine_end_with_their_server(served: Served, name: str) -> None:
    number = signal.Signals[name]
    async with tab(served.url) as browser:
        await browser.shows("context 0/32")
        (program,) = children(served.process.pid)
        (engine,) = children(program)
        served.process.send_signal(number)
        await browser.ended()
    assert await asyncio.to_thread(gone, program)
    assert await asyncio.to_thread(gone, engine)
    status = await asyncio.to_thread(served.process.wait, PATIENCE)
    assert status == (-number if name == "SIGKILL" else 0)


@needs_processes
async def test_a_browser_that_reads_nothing_stops_no_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serve, "PATIENCE", 0.1)
    flood = ECHO.replace("while", "while True: say(bytes(100_000))\nwhile")
    async with serving(flood) as url:
        async with tab(url) as browser:
            program = int((await browser.socket.receive()).data.split()[0])
        assert await asyncio.to_thread(gone, program)


@needs_processes
async def test_a_program_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "PATIENCE", 0.1)
    async with serving(STUBBORN) as url:
        async with tab(url) as browser:
            program = int((await browser.socket.receive()).data.split()[0])
        assert await asyncio.to_thread(gone, program)


async def test_a_browser_is_told_of_a_program_that_ended_before_anybody_looked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = serve._Session._open_app_process

    async def ended(session: serve._Session, width: int, height: int) -> object:
        process = await start(session, width, height)
        while not (process.stdout and process.stdout.at_eof()):
            await asyncio.sleep(0)
        return process

    monkeypatch.setattr(serve._Session, "_open_app_process", ended)
    async with serving("") as url, tab(url) as browser:
        await browser.ended()


@pytest.mark.parametrize("program", ["", "import sys; sys.exit(1)", ECHO.partition("while")[0]])
async def test_a_browser_is_told_of_a_program_that_ended(program: str) -> None:
    async with serving(program) as url, tab(url) as browser:
        await browser.ended()
