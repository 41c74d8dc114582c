"""gpt-tui --serve, and what a browser would do with it, without a browser."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import aiohttp
import pyte
import pytest
from aiohttp import web

from tests.terminal import KEYS, PATIENCE
from tui import serve

SECRET = "of-these-tests"  # noqa: S105
ECHO = r"""
import os, sys
def say(data):
    sys.stdout.buffer.write(b"D" + len(data).to_bytes(4, "big") + data)
    sys.stdout.flush()
sys.stdout.buffer.write(b"__GANGLION__\n")
say(f"{os.getpid()} {os.environ['COLUMNS']} {os.environ['ROWS']}".encode())
while head := sys.stdin.buffer.read(5):
    say(head[:1] + sys.stdin.buffer.read(int.from_bytes(head[1:], "big")))
"""
"""A program of textual-serve's protocol that says its size and repeats what it is sent."""
STUBBORN = ECHO + "import time\nwhile True: time.sleep(60)\n"
"""One that does not end when it is asked to."""


@asynccontextmanager
async def serving(program: str) -> AsyncIterator[str]:
    """The server in this process before a Python program; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-S", "-c", program]
        runner = web.AppRunner(serve.application(command, port, SECRET))
        await runner.setup()
        await web.SockSite(runner, listener).start()
        try:
            yield f"http://127.0.0.1:{port}/{SECRET}/"
        finally:
            await runner.cleanup()


class Tab:
    """A browser's side of the web socket, with the screen that it would draw."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.screen = pyte.Screen(110, 32)
        self._stream = pyte.ByteStream(self.screen)

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.socket.send_json(["stdin", KEYS.get(key, key)])

    async def shows(self, *texts: str) -> None:
        """Draw until all of these are on the screen."""
        await self._until(lambda: all(text in self.text for text in texts))

    async def hides(self, text: str) -> None:
        """Draw until this is not on the screen."""
        await self._until(lambda: text not in self.text)

    async def _until(self, seen: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not seen():
                    message = await self.socket.receive()
                    assert message.type is aiohttp.WSMsgType.BINARY, (message, self.text)
                    self._stream.feed(message.data)
        except TimeoutError:
            pytest.fail(f"never seen; the last screen was:\n{self.text}")

    async def ended(self) -> None:
        """Wait until the server has closed the socket."""
        async with asyncio.timeout(PATIENCE):
            while (await self.socket.receive()).type is not aiohttp.WSMsgType.CLOSED:
                pass


@asynccontextmanager
async def tab(url: str, query: str = "?width=110&height=32") -> AsyncIterator[Tab]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}ws{query}", max_msg_size=0) as connected,
    ):
        yield Tab(connected)


class Served:
    """gpt-tui --serve."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        command = [sys.executable, "-m", "tui", "tiny", "--no-compile", "--serve", "--port", "0"]
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stdout
        said = self.process.stdout.readline()
        found = re.fullmatch(r"gpt-tui is at (http://127\.0\.0\.1:\d+/[\w-]{30,}/)\n", said)
        assert found, said
        self.url = found[1]


def start_servers() -> Iterator[Callable[..., Served]]:
    """For a fixture: a function that starts servers, all ended after."""
    started: list[Served] = []

    def begin(*arguments: str, **environment: str) -> Served:
        started.append(Served(*arguments, **environment))
        return started[-1]

    yield begin
    for served in started:
        served.process.terminate()
        served.process.communicate(timeout=PATIENCE)
