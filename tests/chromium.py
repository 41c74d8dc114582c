"""A real browser without a window, driven through its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pyte
import pytest

from tests.terminal import PATIENCE

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed")


class Page:
    """One tab: what a person does in it, and what its web socket brings."""

    def __init__(self, tools: aiohttp.ClientWebSocketResponse) -> None:
        self._tools = tools
        self._ids = itertools.count(1)
        self._session: dict[str, str] = {}
        self.requested: list[str] = []
        """Addresses that the tab asked for; what the page's own policy stopped is not here."""
        self._pending: dict[str, str] = {}
        self.screen = pyte.Screen(80, 24)
        """What the program draws, from the frames of the page's web socket."""
        self._stream = pyte.ByteStream(self.screen)

    @property
    def text(self) -> str:
        """The screen, a line a row."""
        return "\n".join(self.screen.display)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol and its result."""
        number = next(self._ids)
        call = {"id": number, "method": method, "params": parameters}
        await self._tools.send_json({**call, **self._session})
        while True:
            if (message := await self._next()).get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])

    async def _next(self) -> dict[str, Any]:
        message = dict(await self._tools.receive_json())
        parameters = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self._pending[parameters["requestId"]] = parameters["request"]["url"]
            case "Network.responseReceived":
                self.requested.append(parameters["response"]["url"])
            case "Network.loadingFailed" if parameters.get("blockedReason") != "csp":
                self.requested.append(self._pending[parameters["requestId"]])
            case "Network.webSocketCreated":
                self.requested.append(parameters["url"])
                if size := re.search(r"width=(\d+)&height=(\d+)", parameters["url"]):
                    self.screen.resize(int(size[2]), int(size[1]))
            case "Network.webSocketFrameReceived" if parameters["response"]["opcode"] == 2:
                self._stream.feed(base64.b64decode(parameters["response"]["payloadData"]))
        return message

    async def open(self, url: str) -> None:
        """A new tab with this address, like one that a person opens: it has the keys."""
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        await self.call("Network.enable")
        await self.call("Page.enable")
        await self.call("Page.navigate", url=url)
        await self.call("Page.bringToFront")

    async def until(self, seen: Callable[[], object]) -> None:
        """Read what happens until a state is reached."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not seen():
                    await self._next()
        except TimeoutError:
            pytest.fail(f"never seen; the last screen was:\n{self.text}\n{self.requested}")

    async def shows(self, *texts: str) -> None:
        """Read until the screen has all of these."""
        await self.until(lambda: all(text in self.text for text in texts))

    async def type(self, text: str) -> None:
        """Keys to whatever has the focus."""
        for key in text:
            more = {"key": "Enter", "windowsVirtualKeyCode": 13} if key == "\r" else {"key": key}
            for kind in ("keyDown", "keyUp"):
                letters = {"text": key} if kind == "keyDown" else {}
                await self.call("Input.dispatchKeyEvent", type=kind, **more, **letters)

    async def evaluate(self, script: str) -> Any:
        """The value of JavaScript in the page; a promise is waited for."""
        done = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    async def picture(self) -> bytes:
        """What a person sees, as PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot"))["data"])


@asynccontextmanager
async def chromium(profile: Path) -> AsyncIterator[Page]:
    """A browser with an empty profile, and a tab that opens its first page with `Page.open`."""
    assert CHROMIUM
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--remote-debugging-port=0",
        f"--user-data-dir={profile}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr
    try:
        async with asyncio.timeout(PATIENCE):
            while not (found := re.search(rb"ws://\S+", line := await process.stderr.readline())):
                assert line, "Chromium did not start"
        drain = asyncio.create_task(process.stderr.read())
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(found[0].decode(), max_msg_size=0) as tools,
        ):
            yield Page(tools)
        drain.cancel()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
