"""The loop that waits for servers: values as they come, and everything closed afterwards."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import pytest

from gpt.progress import Watcher
from gpt.remote.loop import Loop, RequestCancelledError


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close(None)


class Source:
    """Gives 0, 1, 2, … and remembers how far it came and how it ended."""

    def __init__(self, n: int = 10**9) -> None:
        self.n = n
        self.given = 0
        self.ended_by: type[BaseException] | None = None
        self.is_closed = False

    async def values(self) -> AsyncGenerator[int, None]:
        try:
            while self.given < self.n:
                await asyncio.sleep(0)
                self.given += 1
                yield self.given - 1
        except BaseException as error:
            self.ended_by = type(error)
            raise
        finally:
            await asyncio.sleep(0)  # as a connection that is being closed
            self.is_closed = True


async def failing() -> AsyncGenerator[int, None]:
    yield 1
    raise ValueError("broken")


async def silent() -> AsyncGenerator[int, None]:
    await asyncio.Event().wait()
    yield 1


async def answer() -> str:
    for _ in range(9):
        await asyncio.sleep(0)
    return "answer"


def test_all_values_in_order(loop: Loop) -> None:
    source = Source(100)
    assert list(loop.read(source.values())) == list(range(100))
    assert source.is_closed and source.ended_by is None
    assert list(loop.read(Source(0).values())) == []


def test_an_error_comes_after_the_values(loop: Loop) -> None:
    values = loop.read(failing())
    assert next(values) == 1
    with pytest.raises(ValueError, match="broken"):
        next(values)
    assert loop.run(answer()) == "answer"


def test_nothing_is_read_that_nobody_waits_for(loop: Loop) -> None:
    """Also while the loop runs for other requests, so that a fast server cannot fill memory."""
    source = Source()
    values = loop.read(source.values())
    for n in range(3):
        assert next(values) == n
        assert loop.run(answer()) == "answer"
        assert source.given == n + 1
    values.close()


def test_two_are_read_in_turn(loop: Loop) -> None:
    one, two = loop.read(Source(50).values()), loop.read(Source(50).values())
    assert list(zip(one, two, strict=True)) == [(n, n) for n in range(50)]


def test_closing_ends_a_generator_between_two_values(loop: Loop) -> None:
    """httpx loses a connection whose task is cancelled while it closes it."""
    source = Source()
    values = loop.read(source.values())
    assert next(values) == 0
    values.close()
    assert source.is_closed and source.ended_by is GeneratorExit


def test_a_generator_that_is_forgotten_is_closed(loop: Loop) -> None:
    source = Source()
    values = loop.read(source.values())
    assert next(values) == 0
    del values
    gc.collect()
    assert source.is_closed


def test_a_generator_that_is_closed_while_the_loop_runs_ends_later(loop: Loop) -> None:
    source = Source()
    values = loop.read(source.values())
    assert next(values) == 0

    async def close() -> None:
        values.close()

    loop.run(close())
    assert loop.run(answer()) == "answer"
    assert source.is_closed


def test_cancelled_while_nothing_comes(loop: Loop) -> None:
    until = time.monotonic() + 0.1
    with pytest.raises(RequestCancelledError):
        list(loop.read(silent(), Watcher(lambda: time.monotonic() > until)))
    assert time.monotonic() < until + 30
    assert loop.run(answer()) == "answer"


def test_cancelled_between_two_values(loop: Loop) -> None:
    source = Source()
    values = loop.read(source.values(), Watcher(lambda: source.given > 2))
    assert next(values) == 0
    with pytest.raises(RequestCancelledError):
        list(values)
    assert source.is_closed and source.given == 3


def test_a_slow_caller_still_sees_that_it_is_cancelled(loop: Loop) -> None:
    """The time for a look was over before the loop ran again."""
    looks: list[float] = []

    async def values() -> AsyncGenerator[int, None]:
        yield 0
        async with aclosing(silent()) as others:
            async for value in others:
                yield value

    def cancelled() -> bool:
        looks.append(time.monotonic())
        return len(looks) > 4

    found = loop.read(values(), Watcher(cancelled))
    assert next(found) == 0
    until = time.monotonic() + 0.15
    while time.monotonic() < until:
        pass
    with pytest.raises(RequestCancelledError):
        next(found)
    assert looks[-1] - looks[2] < 30


def test_closing_the_loop_closes_what_is_read(loop: Loop) -> None:
    source = Source()
    values = loop.read(source.values())
    assert next(values) == 0
    started = time.monotonic()
    loop.close(None)
    assert source.is_closed and time.monotonic() - started < 4
    with pytest.raises(RequestCancelledError):
        next(values)
    values.close()
