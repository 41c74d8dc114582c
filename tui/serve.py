"""The program in a browser on this machine; each tab is a process of its own.

textual-serve shows any program to any web page that asks. Here an address is secret, and a page of
another origin is refused even if it knows the address. The secret is a part of the path: a cookie
would be sent to every server on this machine, because cookies know no ports.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import shlex
import socket
import sys
import threading
import webbrowser
from asyncio import StreamReader
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import aiohttp_jinja2
import jinja2
from aiohttp import WSMsgType, web
from aiohttp.typedefs import Handler
from textual_serve.app_service import AppService
from textual_serve.server import Server

from gpt.errors import UserError
from gpt.sanitize import sanitize

HOST = "127.0.0.1"
DRIVER = "tui.served:ServedDriver"
WIDTHS, HEIGHTS = (10, 500), (3, 200)
"""Least and greatest; a terminal of a billion columns would need gigabytes."""
MOST_BYTES = 4 << 20
"""Of one message; a pasted text is one message."""
PATIENCE = 10.0
"""Seconds in which a program must have saved its text and ended, before it is killed."""
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self' ws://{host}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
FOCUS = """<script>
      new MutationObserver((changes, observer) => {
        if (!document.body.classList.contains("-first-byte")) return;
        observer.disconnect();
        document.querySelector(".xterm-helper-textarea").focus();
      }).observe(document.body, { attributes: true });
    </script>
  </body>"""
"""Gives the keys to the terminal as soon as the program has drawn something."""


def serve(command: Sequence[str], port: int, *, opens: bool = True) -> None:
    """Show the program that command starts in a browser, until Ctrl+C or SIGTERM.

    port: 0 takes a free one. opens: whether the browser is opened, too. Raises UserError if
    nobody can listen there.
    """
    try:
        listener = socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"cannot listen on port {port}: {reason}; choose another --port") from error
    port = listener.getsockname()[1]
    secret = secrets.token_urlsafe()
    url = f"http://{HOST}:{port}/{secret}/"
    print(f"gpt-tui is at {url}\nKeep the address secret; Ctrl+C ends the program.", flush=True)
    if opens:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    web.run_app(application(command, port, secret), sock=listener, print=None, access_log=None)


def application(command: Sequence[str], port: int, secret: str) -> web.Application:
    """What answers on port: the page, its files and its web socket under /secret/."""
    library = Server(shlex.join(command), HOST, port)
    hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
    if port == 80:
        hosts |= {HOST, "localhost"}
    open_sockets: set[web.WebSocketResponse] = set()

    async def page(request: web.Request) -> web.StreamResponse:
        context = {
            "font_size": 16,
            "app_websocket_url": f"ws://{request.headers['Host']}/{secret}/ws",
            "config": {"static": {"url": f"/{secret}/static/"}},
            "application": {"name": "gpt-tui"},
        }
        html = aiohttp_jinja2.render_string("app_index.html", request, context)
        return web.Response(text=html.replace("</body>", FOCUS), content_type="text/html")

    async def program(request: web.Request) -> web.StreamResponse:
        browser = web.WebSocketResponse(heartbeat=15, max_msg_size=MOST_BYTES)
        await browser.prepare(request)

        async def close() -> None:
            await browser.close()

        session = _Session(
            library.command,
            write_bytes=browser.send_bytes,
            write_str=browser.send_str,
            close=close,
            download_manager=library.download_manager,
        )
        open_sockets.add(browser)
        try:
            await _show(session, browser, request.query)
        finally:
            open_sockets.discard(browser)
            await session.stop()
        return browser

    async def end(_: web.Application) -> None:
        await asyncio.gather(*(browser.close() for browser in tuple(open_sockets)))

    guard, protect = _guards(hosts, secret)
    app = web.Application(middlewares=[guard])
    aiohttp_jinja2.setup(app, loader=jinja2.FileSystemLoader(library.templates_path))
    app.on_response_prepare.append(protect)
    app.on_shutdown.append(end)
    app.router.add_get(f"/{secret}/", page)
    app.router.add_get(f"/{secret}/ws", program)
    app.router.add_static(f"/{secret}/static", library.statics_path)
    return app


def _guards(hosts: set[str], secret: str) -> tuple[Any, Any]:
    """What refuses requests from elsewhere, and what puts the headers on every response."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        host, origin = request.headers.get("Host"), request.headers.get("Origin")
        begin = request.path.removeprefix("/").partition("/")[0]
        knows = hmac.compare_digest(begin.encode("utf-8", "replace"), secret.encode())
        if host not in hosts or origin not in (None, f"http://{host}") or not knows:
            raise web.HTTPForbidden(text="open the address that gpt-tui has printed\n")
        return await handler(request)

    async def protect(request: web.Request, response: web.StreamResponse) -> None:
        host = request.headers.get("Host")
        policy = POLICY.format(host=host if host in hosts else HOST)
        response.headers.update(HEADERS | {"Content-Security-Policy": policy})

    return guard, protect


class _Session(AppService):
    """A program and the browser that shows it: each ends with the other."""

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        """Without the shell of textual-serve: what is killed is the program itself."""
        self._process = await asyncio.create_subprocess_exec(
            *shlex.split(self.command),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env={**self._build_environment(width, height), "TEXTUAL_DRIVER": DRIVER},
            start_new_session=True,  # Ctrl+C is for the server, which ends its programs in order
        )
        self._stdin = self._process.stdin
        return self._process

    async def run(self) -> None:
        """Show what the program draws; if it ends by itself the browser is told."""
        try:
            await super().run()
        finally:  # textual-serve is cancelled by itself if the program has ended before it looks
            await self.remote_close()

    async def stop(self) -> None:
        """Ask the program to end, wait for it, kill it if it does not end in PATIENCE seconds."""
        task, self._task = self._task, None
        if task is None or self._process is None:
            return
        await self._download_manager.cancel_app_downloads(app_service_id=self.app_service_id)
        task.cancel()
        await asyncio.wait([task])
        end = asyncio.create_task(self._end(self._process))
        ended, _ = await asyncio.wait([end], timeout=PATIENCE)
        if not ended:
            with suppress(ProcessLookupError):
                self._process.kill()
            await asyncio.wait([end], timeout=PATIENCE)
        if end.done() and (said := end.result()):
            print(sanitize(said.decode("utf-8", "replace")), file=sys.stderr)

    async def _end(self, process: Process) -> bytes:
        """Ask the program to end; read on, so that it cannot block; its last words."""
        stdout, stderr = cast(StreamReader, process.stdout), cast(StreamReader, process.stderr)

        async def ask() -> None:
            await self.send_meta({"type": "quit"})
            self.stdin.close()

        async def read() -> None:
            while await stdout.read(1 << 16):
                pass

        said, *_ = await asyncio.gather(stderr.read(), ask(), read(), process.wait())
        return said


async def _show(
    session: AppService, browser: web.WebSocketResponse, size: Mapping[str, str]
) -> None:
    """Run the program until its browser leaves."""
    width, height = _number(size.get("width", ""), 80), _number(size.get("height", ""), 24)
    await session.start(_clamp(width, WIDTHS), _clamp(height, HEIGHTS))
    async for message in browser:
        if message.type is WSMsgType.TEXT:
            await _take(message.data, browser, session)


async def _take(message: str, browser: web.WebSocketResponse, session: AppService) -> None:
    """Pass on what textual-serve's page sends; anything else is ignored."""
    try:
        wish = json.loads(message)
    except (ValueError, RecursionError):
        return
    match wish:
        case ["stdin", str(keys)]:
            await session.send_bytes(keys.encode("utf-8", "replace"))
        case ["resize", {"width": int(width), "height": int(height)}]:
            await session.set_terminal_size(_clamp(width, WIDTHS), _clamp(height, HEIGHTS))
        case ["ping", str(mark)]:
            with suppress(ConnectionResetError):
                await browser.send_json(["pong", mark])
        case ["focus"]:
            await session.focus()
        case ["blur"]:
            await session.blur()


def _number(text: str, otherwise: int) -> int:
    try:
        return int(text)
    except ValueError:
        return otherwise


def _clamp(number: int, bounds: tuple[int, int]) -> int:
    return min(max(number, bounds[0]), bounds[1])
