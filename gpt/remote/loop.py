"""An event loop that runs in the thread of its caller, whose tasks can be cancelled at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from typing import Any, TypeVar

from gpt.progress import NOBODY, Watcher

_POLL = 0.05
"""Seconds between two looks at whether a task was cancelled."""
_LAST_WAIT = 5.0
"""Seconds for a connection to close."""

Result = TypeVar("Result")


class RequestCancelledError(Exception):
    """Whoever waits for the answer no longer wants it. The connection is closed."""


class Loop:
    """Runs one awaitable after another; it begins with the first."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._unfinished: list[AsyncGenerator[Any, None]] = []

    def run(self, waits: Awaitable[Result], watcher: Watcher = NOBODY) -> Result:
        """Wait for a result. Raises RequestCancelledError, also if the result came at once."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        self._end_all()
        running = self._loop.create_task(_as_coroutine(waits))
        try:
            while not running.done():
                self._loop.run_until_complete(asyncio.wait({running}, timeout=_POLL))
                if watcher.cancelled() and not running.done():
                    raise RequestCancelledError
            found = running.result()
            if watcher.cancelled():
                raise RequestCancelledError
            return found
        finally:
            if not running.done():
                running.cancel()
                self._loop.run_until_complete(asyncio.wait({running}, timeout=_LAST_WAIT))

    def end(self, generator: AsyncGenerator[Any, None]) -> None:
        """Close a generator. If the garbage collector does it while a loop runs, a bit later."""
        self._unfinished.append(generator)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._end_all()

    def close(self, last: Awaitable[object] | None) -> None:
        """Wait for the last thing, then for all that has not ended, and end the loop."""
        if self._loop is None:
            return
        if last is not None:
            self.run(last)
        self._end_all()
        self._loop.run_until_complete(_settle())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
        self._loop = None

    def _end_all(self) -> None:
        while self._loop and self._unfinished:
            ending = self._loop.create_task(_as_coroutine(self._unfinished.pop().aclose()))
            self._loop.run_until_complete(asyncio.wait({ending}, timeout=_LAST_WAIT))


async def _settle() -> None:
    """Let what still runs end: the loop closes a forgotten generator in a task of its own."""
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        await asyncio.wait(left, timeout=_LAST_WAIT)


async def _as_coroutine(waits: Awaitable[Result]) -> Result:
    """An awaitable as a coroutine, which is what a task needs."""
    return await waits
