"""An event loop that runs in the thread of its caller, whose tasks can be cancelled at any time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import aclosing, contextmanager
from typing import TypeVar

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
        self._reading: set[asyncio.Task[None]] = set()
        """Tasks that read a generator, each until it is waited for with _end_all."""
        self._unwanted: list[asyncio.Task[None]] = []
        """Those of them that were cancelled."""

    def run(self, waits: Awaitable[Result], watcher: Watcher = NOBODY) -> Result:
        """Wait for a result. Raises RequestCancelledError, also if the result came at once."""
        loop = self._started()
        running = loop.create_task(_as_coroutine(waits))
        try:
            while not running.done():
                loop.run_until_complete(asyncio.wait({running}, timeout=_POLL))
                if watcher.cancelled() and not running.done():
                    raise RequestCancelledError
            found = running.result()
            if watcher.cancelled():
                raise RequestCancelledError
            return found
        finally:
            if not running.done():
                running.cancel()
                loop.run_until_complete(asyncio.wait({running}, timeout=_LAST_WAIT))

    def read(
        self, values: AsyncGenerator[Result, None], watcher: Watcher = NOBODY
    ) -> Generator[Result, None, None]:
        """The values of a generator as they come, which is closed at the end and when the caller
        closes this one. Raises RequestCancelledError.

        One task reads them all: a task for each would cost more than a small value does. It reads
        only while the caller waits, so that nothing piles up, and stands between two values when
        the caller closes: httpx loses a connection whose task is cancelled while it closes it.
        """
        loop = self._started()
        came, wanted = list[Result](), asyncio.Event()

        async def read() -> None:
            async with aclosing(values):
                async for value in values:
                    came.append(value)
                    stop()
                    await wanted.wait()

        def stop() -> None:
            if wanted.is_set():  # or the loop runs for another request
                wanted.clear()
                loop.stop()

        reading = loop.create_task(read())
        reading.add_done_callback(lambda _: stop())
        self._reading.add(reading)
        with _every(_POLL, loop, stop):
            try:
                while not reading.done():
                    wanted.set()
                    loop.run_forever()
                    if watcher.cancelled() or reading.cancelled():
                        raise RequestCancelledError
                    if came:
                        yield came.pop()
                if reading.cancelled():
                    raise RequestCancelledError
                reading.result()
            finally:
                self._end(reading)

    def _started(self) -> asyncio.AbstractEventLoop:
        """The loop, in which nothing runs any more that nobody wants."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        self._end_all()
        return self._loop

    def _end(self, reading: asyncio.Task[None]) -> None:
        """Cancel a task. If the garbage collector does it while a loop runs, it ends later."""
        reading.cancel()
        self._unwanted.append(reading)
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
        for reading in self._reading:
            reading.cancel()
        self._unwanted += self._reading
        self._end_all()
        self._loop.run_until_complete(_settle())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
        self._loop = None

    def _end_all(self) -> None:
        while self._loop and self._unwanted:
            ending = self._unwanted.pop()
            if not ending.done():
                self._loop.run_until_complete(asyncio.wait({ending}, timeout=_LAST_WAIT))
            if ending.done() and not ending.cancelled():
                ending.exception()  # or the loop complains that nobody asked for it
            self._reading.discard(ending)


@contextmanager
def _every(
    seconds: float, loop: asyncio.AbstractEventLoop, call: Callable[[], None]
) -> Iterator[None]:
    """Call something again and again while the loop runs."""
    timer: asyncio.TimerHandle

    def again() -> None:
        nonlocal timer
        timer = loop.call_later(seconds, again)
        call()

    timer = loop.call_later(seconds, again)
    try:
        yield
    finally:
        timer.cancel()


async def _settle() -> None:
    """Let what still runs end: the loop closes a forgotten generator in a task of its own."""
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        await asyncio.wait(left, timeout=_LAST_WAIT)


async def _as_coroutine(waits: Awaitable[Result]) -> Result:
    """An awaitable as a coroutine, which is what a task needs."""
    return await waits
