"""Requests as they arrive, line by line, while another thread answers them."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from gpt.protocol.request import REQUESTS


@dataclass(eq=False)
class Job:
    """A line that must be answered exactly once."""

    id: str | int | None
    """What every line of the answer repeats."""
    op: str = ""
    """What is asked for; empty if the line does not say."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """The fields of the request, not yet checked."""
    error: str = ""
    """Why the line is not a request."""
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Make the answer end soon."""
        self._cancelled.set()

    def is_cancelled(self) -> bool:
        """Whether the answer should end soon."""
        return self._cancelled.is_set()


class Inbox:
    """Requests in the order of their arrival. Only cancel and the end of the input overtake."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._open: list[Job] = []
        """Jobs without an answer yet. A list, because ids may be used again."""
        self._lock = threading.Lock()

    def read(self, lines: Iterator[bytes]) -> None:
        """Take requests until the input ends, which cancels all. Runs in a thread of its own."""
        with suppress(OSError):
            for line in lines:
                job = _understand(line)
                if job.op == "cancel":
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
        """Note that a job is answered; it can no longer be cancelled."""
        with self._lock:
            self._open.remove(job)

    def _cancel(self, number: Any) -> None:
        with self._lock:
            for job in self._open:
                if job.id is not None and job.id == number:
                    job.cancel()


def _understand(line: bytes) -> Job:
    """The request in a line, or a job that says why there is none."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Job(None, error=f"a line is not JSON: {error}")
    if not isinstance(values, dict):
        return Job(None, error="a request is an object with an op and an id")
    number, op = values.get("id"), values.get("op")
    named = number is None or type(number) in (str, int)
    job = Job(number if named else None, op if isinstance(op, str) else "", values)
    if job.op == "cancel":
        return job
    if not named:
        job.error = "the id of a request is a text or a whole number"
    elif job.op not in REQUESTS:
        job.error = f"there is no such op; use one of {', '.join(sorted(REQUESTS))}"
    return job
