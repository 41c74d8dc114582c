"""Requests to one server over HTTP: streams that can be cancelled, and errors as one sentence."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import aclosing, closing
from typing import Any, cast

import httpx
import orjson

from gpt.errors import UserError
from gpt.progress import NOBODY, Watcher
from gpt.remote import trouble
from gpt.remote.loop import Loop
from gpt.remote.sse import Events
from gpt.server_address import Address, check_key_variable, read_address

LARGEST = 1 << 27
"""Most bytes of an answer that is not a stream, or of one event of a stream."""
_LARGEST_ERROR = 1 << 16
"""Bytes of an error that are read."""
_TIMEOUT = {"connect": 10.0, "read": 600.0, "write": 60.0, "pool": 60.0}
"""Seconds. A long prompt may take minutes until its first byte; it can be cancelled."""


class _BrokenEarlyError(Exception):
    """The connection broke before anything was read from it."""


class Http:
    """Requests to one server.

    They run in an event loop of their own, in the thread of the caller, because only a task can be
    cancelled while it waits: to connect, for the first byte, or for the next one.
    """

    def __init__(self, address: Address, api_key_env: str = "") -> None:
        """Nothing is sent yet. api_key_env: name of the environment variable that has the key."""
        if api_key_env:
            check_key_variable(api_key_env)
        self.address = address
        self._key = os.environ[api_key_env].strip() if api_key_env else ""
        if not self._key.isascii() or not self._key.isprintable():
            raise UserError("the key has a character that HTTP does not allow; set it again")
        self._loop = Loop()
        self._client: httpx.AsyncClient | None = None

    def get(self, path: str, watcher: Watcher = NOBODY) -> Any:
        """The JSON value at a path."""
        return self._loop.run(self._ask("GET", path, None), watcher)

    def post(self, path: str, body: Any, watcher: Watcher = NOBODY) -> Any:
        """The JSON value that answers a JSON value. Raises RequestCancelledError."""
        return self._loop.run(self._ask("POST", path, body), watcher)

    def post_all(
        self, path: str, bodies: Sequence[Any], watcher: Watcher = NOBODY, *, at_once: int = 1
    ) -> Iterator[Any]:
        """The answers to several bodies, in their order; at most at_once are under way.

        Raises RequestCancelledError.
        """
        for start in range(0, len(bodies), at_once):
            group = bodies[start : start + at_once]
            yield from self._loop.run(self._all(path, group), watcher)

    def stream(self, path: str, body: Any, watcher: Watcher = NOBODY) -> Generator[Any, None, None]:
        """The JSON values of the events that answer a JSON value.

        The connection is closed at the end, and when the caller closes the iterator, so that the
        server stops. Raises RequestCancelledError; UserError for an error in the stream as well.
        """
        events = Events(LARGEST)
        with closing(self._loop.read(self._chunks(path, body), watcher)) as chunks:
            for chunk in chunks:
                for event in events.feed(chunk):
                    yield self._value(event)
            for event in events.end():
                yield self._value(event)
            if not events.is_complete:
                raise UserError(
                    f"the server at {self.address.place} sent no stream of events; "
                    "is it a server for language models?"
                )

    def close(self) -> None:
        """Close all connections."""
        client, self._client = self._client, None
        self._loop.close(client.aclose() if client else None)

    async def _all(self, path: str, bodies: Sequence[Any]) -> list[Any]:
        tasks = [asyncio.ensure_future(self._ask("POST", path, body)) for body in bodies]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _ask(self, method: str, path: str, body: Any) -> Any:
        response = await self._send(method, path, body)
        try:
            data = await self._read(response, LARGEST)
        finally:
            await response.aclose()
        return self._value(data)

    async def _chunks(self, path: str, body: Any) -> AsyncGenerator[bytes, None]:
        """The bytes of a stream as they arrive."""
        response = await self._send("POST", path, body)
        try:
            if "json" in response.headers.get("content-type", ""):
                yield b"data:" + (await self._read(response, LARGEST)).replace(b"\n", b" ")
                yield b"\n\n"
                return
            async with aclosing(_raw(response)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except httpx.HTTPError as error:
            raise self._broken(error) from error
        finally:
            await response.aclose()

    async def _read(self, response: httpx.Response, most: int) -> bytes:
        """The body of an answer as it was sent; an error if it has more than `most` bytes."""
        parts, size = [], 0
        try:
            async with aclosing(_raw(response)) as chunks:
                async for chunk in chunks:
                    parts.append(chunk)
                    size += len(chunk)
                    if size > most:
                        raise UserError(
                            f"the server at {self.address.place} sent more than {most:,} bytes; "
                            "ask for fewer candidates"
                        )
        except httpx.HTTPError as error:
            raise self._broken(error) from error
        return b"".join(parts)

    async def _send(self, method: str, path: str, body: Any) -> httpx.Response:
        """Send a request; the answer's body is not read yet. Once more if the connection was dead:
        a server may close it while it is idle."""
        try:
            response = await self._send_once(method, path, body)
        except _BrokenEarlyError:
            await self._renew()
            try:
                response = await self._send_once(method, path, body)
            except _BrokenEarlyError as error:
                raise UserError(
                    f"the server at {self.address.place} ended the connection without an answer; "
                    "is it still running?"
                ) from error
        if response.status_code != httpx.codes.OK:
            await self._refuse(response)
        return response

    async def _send_once(self, method: str, path: str, body: Any) -> httpx.Response:
        if self._client is None:
            self._client = self._new_client()
        content = None if body is None else json.dumps(body).encode()
        request = self._client.build_request(method, self.address.url + path, content=content)
        try:
            return await self._client.send(request, stream=True)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
            raise _BrokenEarlyError from error
        except httpx.HTTPError as error:
            raise self._broken(error) from error

    def _new_client(self) -> httpx.AsyncClient:
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(**_TIMEOUT),
            follow_redirects=False,
            trust_env=not self.address.is_here,  # no proxy on the way to this machine
            # To read the certificates takes a tenth of a second, and plain HTTP has none.
            verify=self.address.is_encrypted or not self.address.is_here,
        )

    async def _renew(self) -> None:
        """Forget all connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _refuse(self, response: httpx.Response) -> None:
        """Raise UserError for a status that is not 200."""
        status, place = response.status_code, self.address.place
        try:
            if response.is_redirect:
                raise UserError(self._redirect(response.headers.get("location", "")))
            data = b""
            async with aclosing(_raw(response)) as chunks:
                async for chunk in chunks:
                    data += chunk
                    if len(data) > _LARGEST_ERROR:
                        break
        except httpx.HTTPError:
            pass  # what was read says enough
        finally:
            await response.aclose()
        own_words = self._without_key(trouble.words(data))
        raise UserError(trouble.refusal(place, status, own_words, has_key=bool(self._key)))

    def _redirect(self, location: str) -> str:
        """Why an answer that names another address is not followed: a key would go there, too."""
        try:
            there = trouble.shortened(read_address(location).place)
        except UserError:
            there = "another address"
        return (
            f"the server at {self.address.place} sends its visitors to {there}; "
            "if you trust that, give the address there"
        )

    def _value(self, data: bytes) -> Any:
        """Bytes of JSON as a value. An object with an error is an error."""
        try:
            value = _parsed(data)
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"the server at {self.address.place} sent something that is not JSON; "
                "is it a server for language models?"
            ) from error
        if isinstance(value, dict) and value.get("error"):
            own_words = self._without_key(trouble.said(value)) or "without saying why"
            raise UserError(f"the server at {self.address.place} failed: {own_words}")
        return value

    def _broken(self, error: httpx.HTTPError) -> UserError:
        """A failed connection as a sentence."""
        place = self.address.place
        if isinstance(error, httpx.TimeoutException):
            return UserError(f"the server at {place} does not answer in time; try it again")
        if isinstance(error, httpx.ConnectError):
            reason = self._without_key(trouble.shortened(str(error)))
            return UserError(f"cannot reach the server at {place} ({reason}); is it running?")
        return UserError(f"the server at {place} ended the connection in the middle of its answer")

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "…") if self._key else text


def _parsed(data: bytes) -> Any:
    """The value of JSON, as json.loads has it; only whole numbers of more than 64 bits may be
    floats, which nothing takes for an id or a size either. A small vocabulary comes whole with
    every token, and is read in a third of the time."""
    try:
        return orjson.loads(data)
    except ValueError:  # it is stricter: NaN, half a surrogate pair, UTF-16, deep nesting
        return json.loads(data)


def _raw(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The body as it was sent: nothing is unpacked, so that little cannot become much."""
    return cast("AsyncGenerator[bytes, None]", response.aiter_raw())
