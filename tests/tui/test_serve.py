"""The program in a browser, as far as one can tell without a browser."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
    return number


@pytest.fixture
def server(tiny_directory: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tui", "tiny", "--serve", "--port", str(port)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tiny_directory
    )
    yield process
    process.terminate()
    process.communicate(timeout=30)


async def until_up(session: aiohttp.ClientSession, url: str) -> str:
    for _ in range(600):
        try:
            async with session.get(url) as response:
                return await response.text()
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(0.05)
    raise AssertionError("the server never answered")


async def test_a_page_and_the_program_behind_it(server: subprocess.Popen[str], port: int) -> None:
    async with aiohttp.ClientSession() as session:
        page = await until_up(session, f"http://127.0.0.1:{port}/")
        assert f"ws://127.0.0.1:{port}/ws" in page
        url = f"http://127.0.0.1:{port}/ws?width=110&height=32"
        async with asyncio.timeout(60), session.ws_connect(url) as browser:

            async def until(wanted: bytes) -> None:
                seen = b""
                while wanted not in seen:
                    message = await browser.receive()
                    if message.type == aiohttp.WSMsgType.BINARY:
                        seen += message.data
                    assert message.type != aiohttp.WSMsgType.CLOSED, seen

            await until(b"rite a beginning")
            await until(b"context 0/32")
            await browser.send_str(json.dumps(["stdin", "to be"]))
            await until(b"5 tokens")


def test_a_port_that_is_taken_is_one_sentence(tiny_directory: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "tui", "tiny", "--serve", "--port", number],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: cannot listen on port {number}")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(
    not (shutil.which("chromium") or shutil.which("google-chrome")),
    reason="no Chromium is installed",
)
async def test_a_real_browser_draws_it(server: subprocess.Popen[str], port: int) -> None:
    async with aiohttp.ClientSession() as session:
        await until_up(session, f"http://127.0.0.1:{port}/")
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    assert browser
    url = f"http://127.0.0.1:{port}/"
    command = [browser, "--headless", "--no-sandbox", "--virtual-time-budget=20000", "--dump-dom"]
    done = await asyncio.create_subprocess_exec(
        *command, url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    page, _ = await done.communicate()
    assert b"xterm" in page
