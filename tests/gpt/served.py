"""An engine in this process: lines go in, and what it answers is waited for."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from gpt.engine import Engine

PATIENCE = 60.0
"""Seconds until a test gives up; a machine under load may need many."""
PARTS = {"status", "prompt", "steps"}
"""Events after which more of the same answer follows."""
Line = dict[str, Any]


class Output:
    """What the engine writes to, as parsed lines."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._changed = threading.Condition()

    def write(self, text: str) -> None:
        with self._changed:
            self.lines += [json.loads(line) for line in text.splitlines()]
            self._changed.notify_all()

    def flush(self) -> None:
        pass

    def wait(self, seen: Callable[[list[Line]], bool]) -> None:
        """Until the lines are as they should be."""
        with self._changed:
            assert self._changed.wait_for(lambda: seen(self.lines), PATIENCE), self.lines[-5:]


class Served:
    """The engine, in two threads, as its own process has them."""

    def __init__(self, *requests: Line) -> None:
        """Every request, and its answer, before the next one."""
        self._given: queue.SimpleQueue[bytes | threading.Event | None] = queue.SimpleQueue()
        self._output = Output()
        engine = Engine(self._output)  # type: ignore[arg-type]
        self._threads = [
            threading.Thread(target=engine.read, args=(self._read(),), daemon=True),
            threading.Thread(target=engine.serve, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        for request in requests:
            self.ask(request)

    def _read(self) -> Iterator[bytes]:
        while (given := self._given.get()) is not None:
            if isinstance(given, bytes):
                yield given
            else:  # the engine asks for more, so it has read what stands before
                given.set()

    @property
    def lines(self) -> list[Line]:
        """All that it has written."""
        return self._output.lines

    def send(self, line: Line | bytes) -> None:
        """One line, without waiting."""
        self._given.put(line if isinstance(line, bytes) else json.dumps(line).encode())

    def barrier(self) -> None:
        """Until the engine has read all that was sent."""
        read = threading.Event()
        self._given.put(read)
        assert read.wait(PATIENCE)

    def ask(self, request: Line) -> Line:
        """Send a request whose id is new, and wait for the end of its answer."""
        self.send(request)
        return self.final(request["id"])

    def final(self, number: Any) -> Line:
        """The last line of the answer to this id."""
        self.wait(lambda lines: bool(finals(lines, number)))
        return finals(self.lines, number)[-1]

    def wait(self, seen: Callable[[list[Line]], bool]) -> None:
        """Until the lines are as they should be."""
        self._output.wait(seen)

    def of(self, number: Any) -> list[Line]:
        """The lines of one id."""
        return [line for line in self.lines if line["id"] == number]

    def close(self) -> None:
        """End the input, and wait for the engine to end."""
        self._given.put(None)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def finals(lines: list[Line], number: Any) -> list[Line]:
    """The ends of answers to this id."""
    return [line for line in lines if line["id"] == number and line["event"] not in PARTS]
