"""The program in a browser, and everybody who must not have it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chromium import chromium, needs_chromium
from tests.serving import ECHO, SECRET, Served, serving, start_servers, tab
from tests.terminal import PATIENCE, children, gone
from tui import serve


@pytest.fixture
def start(tiny_directory: Path) -> Iterator[Callable[..., Served]]:
    yield from start_servers()


@pytest.fixture
def served(start: Callable[..., Served]) -> Served:
    return start("--no-open")


HOSTILE = {
    "without the secret": ("/{rest}", {}),
    "with a wrong secret": (f"/{SECRET[::-1]}/{{rest}}", {}),
    "with a part of the secret": (f"/{SECRET[:-1]}/{{rest}}", {}),
    "with more than the secret": (f"/{SECRET}x/{{rest}}", {}),
    "with the secret elsewhere": (f"/{{rest}}?secret={SECRET}", {"Cookie": SECRET}),
    "from a name of another place": (f"/{SECRET}/{{rest}}", {"Host": "evil.example:{port}"}),
    "without a port": (f"/{SECRET}/{{rest}}", {"Host": "127.0.0.1"}),
    "for another port": (f"/{SECRET}/{{rest}}", {"Host": "127.0.0.1:1"}),
    "from another place": (f"/{SECRET}/{{rest}}", {"Origin": "https://evil.example"}),
    "from a longer name": (f"/{SECRET}/{{rest}}", {"Origin": "http://127.0.0.1:{port}.evil.com"}),
    "from another port": (f"/{SECRET}/{{rest}}", {"Origin": "http://127.0.0.1:1"}),
    "from another scheme": (f"/{SECRET}/{{rest}}", {"Origin": "https://127.0.0.1:{port}"}),
    "from a sandbox": (f"/{SECRET}/{{rest}}", {"Origin": "null"}),
    "with another of our names": (f"/{SECRET}/{{rest}}", {"Origin": "http://localhost:{port}"}),
}


@pytest.mark.parametrize("rest", ["", "ws", "static/js/textual.js"])
@pytest.mark.parametrize("how", HOSTILE)
async def test_a_hostile_client_gets_nothing(how: str, rest: str) -> None:
    path, headers = HOSTILE[how]
    async with serving(ECHO) as url, aiohttp.ClientSession() as session:
        begin, port = url.removesuffix(f"/{SECRET}/"), url.split(":")[2].split("/")[0]
        headers = {name: value.format(port=port) for name, value in headers.items()}
        async with session.get(begin + path.format(rest=rest), headers=headers) as response:
            assert response.status == 403
            assert SECRET not in await response.text()
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with session.ws_connect(begin + path.format(rest="ws"), headers=headers):
                pass


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_no_answer_can_be_framed_kept_or_told_on(name: str) -> None:
    async with serving(ECHO) as url, aiohttp.ClientSession() as session:
        port = url.split(":")[2].split("/")[0]
        own = {"Host": f"{name}:{port}", "Origin": f"http://{name}:{port}"}
        paths = {"": 200, "static/js/textual.js": 200, "nothing": 404, "../": 403}
        for path, status in paths.items():
            async with session.get(url + path, headers=own) as response:
                assert response.status == status
                assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
                for header, value in serve.HEADERS.items():
                    assert response.headers[header] == value
                if not path:
                    assert f"ws://{name}:{port}/{SECRET}/ws" in await response.text()


@pytest.mark.parametrize(
    ("query", "size"),
    [
        ("", "80 24"),
        ("?width=110&height=32", "110 32"),
        ("?width=99999&height=1000000000", "500 200"),
        ("?width=-5&height=0", "10 3"),
        (f"?width={'9' * 5000}&height=nan", "80 24"),
    ],
)
async def test_absurd_sizes_in_the_address(query: str, size: str) -> None:
    async with serving(ECHO) as url, tab(url, query) as browser:
        assert (await browser.socket.receive()).data.decode().split(" ", 1)[1] == size


numbers = st.integers() | st.integers(-(10**30), 10**30) | st.floats() | st.booleans()
values = st.recursive(
    numbers | st.none() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
sizes = st.fixed_dictionaries({"width": values | numbers, "height": values | numbers})
messages = (
    st.tuples(st.sampled_from(["stdin", "resize", "ping", "focus", "blur"]), values)
    | st.tuples(st.just("resize"), sizes)
    | values
)


@given(st.lists(messages, min_size=10, max_size=40))
@settings(max_examples=8, deadline=None)
def test_whatever_a_browser_sends_no_program_gets_an_absurd_size(sent: list[Any]) -> None:
    async def talk() -> list[Any]:
        async with serving(ECHO) as url, tab(url) as browser:
            for message in sent:
                await browser.socket.send_str(json.dumps(message))
            for odd in ("[" * 10_000, "{", "", f'["resize", {{"width": {"9" * 5000}}}]'):
                await browser.socket.send_str(odd)
            await browser.socket.send_bytes(b"\xff")
            await browser.socket.send_json(["stdin", "\ud800 the end"])
            await browser.socket.receive()  # its size
            while (message := await browser.socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            found = [message.data]
            while found[-1] != b"D? the end":
                message = await browser.socket.receive()
                assert message.type is not aiohttp.WSMsgType.CLOSED, found
                found += [message.data] if message.type is aiohttp.WSMsgType.BINARY else []
            return found

    for packet in asyncio.run(asyncio.wait_for(talk(), PATIENCE)):
        if packet[:1] == b"M":
            meta = json.loads(packet[1:])
            assert meta["type"] in {"resize", "focus", "blur"}
            if meta["type"] == "resize":
                assert 10 <= meta["width"] <= 500
                assert 3 <= meta["height"] <= 200


async def test_a_message_that_is_too_long_ends_the_session() -> None:
    async with serving(ECHO) as url:
        async with tab(url) as browser:
            program = int((await browser.socket.receive()).data.split()[0])
            await browser.press("x" * 2_000_000)
            await browser.press("x" * (serve.MOST_BYTES + 1))
            await browser.ended()
            assert browser.socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        assert await asyncio.to_thread(gone, program)


@needs_chromium
async def test_a_hostile_page_gets_nothing_even_with_the_secret(
    served: Served, tmp_path: Path
) -> None:
    """A page of another port on this machine, which the browser takes for the same site."""
    attack = """
    (async (url) => {
      const tried = (promise) => promise.then((value) => value, () => "refused");
      const loads = (kind, place) => tried(new Promise((yes, no) => {
        const part = document.createElement(kind);
        part.onload = () => yes("loaded"), part.onerror = no, part.src = place;
        document.body.append(part);
      }));
      const socket = new Promise((yes, no) => {
        const socket = new WebSocket(url.replace("http", "ws") + "ws?width=80&height=24");
        socket.onopen = () => yes("open"), socket.onerror = no;
      });
      const read = (options) => tried(fetch(url, options).then((answer) => answer.type));
      await loads("iframe", url);
      return [
        await tried(socket), await read({}), await read({mode: "no-cors", credentials: "include"}),
        await loads("script", url + "static/js/textual.js"),
        await loads("img", url + "static/images/background.png"),
      ];
    })
    """

    async def hostile(_: web.Request) -> web.Response:
        return web.Response(text="<!DOCTYPE html><body>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", hostile)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with chromium(tmp_path / "profile") as page:
            await page.open(f"{site.name}/")
            got = await page.evaluate(f"({attack})({json.dumps(served.url)})")
            tree = (await page.call("Page.getFrameTree"))["frameTree"]
    finally:
        await runner.cleanup()
    assert got == ["refused"] * 5
    frames = [child["frame"]["url"] for child in tree.get("childFrames", ())]
    assert served.url not in frames, "the program is in its frame"
    assert children(served.process.pid) == [], "a program was started for it"
