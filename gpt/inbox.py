"""Requests as they come in, line by line, while another thread answers them."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from gpt.request import Request


@dataclass(eq=False)
class Job:
    """A request that is to be answered once."""

    id: str | int | None
    """What every line of the answer repeats."""
    request: Request
    error: str = ""
    """Why the line is not a request; it is answered like one."""
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Let the answer end soon."""
        self._cancelled.set()

    def is_cancelled(self) -> bool:
        """Whether the answer should end soon."""
        return self._cancelled.is_set()


class Inbox:
    """What is to be answered, in its order. Only cancel, and the end of the input, overtake."""

    def __init__(self, operations: frozenset[str]) -> None:
        """operations: what a request may ask for, but for cancel."""
        self._operations = operations
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._open: list[Job] = []
        """Those that are not yet answered. A list, because ids may be used again."""
        self._lock = threading.Lock()

    def read(self, lines: Iterator[bytes]) -> None:
        """Take requests until the input ends, which cancels all. Runs in a thread of its own."""
        with suppress(OSError):
            for line in lines:
                job = self._understand(line)
                if job.request.get("op") == "cancel":
                    self._cancel(job.id)
                    continue
                with self._lock:
                    self._open.append(job)
                self._waiting.put(job)
        with self._lock:
            for job in self._open:
                job.cancel()
        self._waiting.put(None)

    def take(self) -> Job | None:
        """Wait for the next request; None if the input has ended and nothing is left."""
        return self._waiting.get()

    def close(self, job: Job) -> None:
        """It is answered, so it can no longer be cancelled."""
        with self._lock:
            self._open.remove(job)

    def _cancel(self, number: Any) -> None:
        with self._lock:
            for job in self._open:
                if job.id is not None and job.id == number:
                    job.cancel()

    def _understand(self, line: bytes) -> Job:
        """A request as it is, or one with the reason why it is not understood."""
        try:
            request = json.loads(line)
        except (ValueError, RecursionError) as error:
            return Job(None, {}, f"a line is not JSON: {error}")
        if not isinstance(request, dict):
            return Job(None, {}, "a request is an object with an op and an id")
        number = request.get("id")
        named = number is None or type(number) in (str, int)
        job = Job(number if named else None, request)
        if request.get("op") == "cancel":
            return job
        if not named:
            job.error = "the id of a request is a text or a whole number"
        elif request.get("op") not in list(self._operations):
            job.error = f"there is no such op; use one of {', '.join(sorted(self._operations))}"
        return job
