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
    """A request, or a line that is not one. It must be answered exactly once."""

    id: str | int | None
    """Id of the request, which every line of the answer repeats."""
    op: str = ""
    """Name of the operation; empty if the line does not say."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """The fields of the request, not yet checked."""
    error: str = ""
    """Why the line is not a request."""
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _branches: set[int] = field(default_factory=set)
    """Branches that were cancelled alone."""

    def cancel(self, branch: int | None = None) -> None:
        """Make the answer end soon, or only one of its branches."""
        if branch is None:
            self._cancelled.set()
        else:
            self._branches.add(branch)

    def is_cancelled(self, branch: int | None = None) -> bool:
        """Whether the answer, or this branch of it, should end soon."""
        return self._cancelled.is_set() or branch in self._branches


class Inbox:
    """A queue of requests. Only `cancel` and the end of the input act before earlier requests."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._open: list[Job] = []
        """Jobs that are not answered yet. A list, because ids may be used again."""
        self._lock = threading.Lock()

    def read(self, lines: Iterator[bytes]) -> None:
        """Read requests until the input ends; the end cancels all. Runs in its own thread."""
        with suppress(OSError):
            for line in lines:
                job = _parse(line)
                if job.op == "cancel":
                    self._cancel(job.id, job.values.get("branch"))
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

    def _cancel(self, id: Any, branch: Any) -> None:
        if type(branch) not in (int, type(None)):
            return
        with self._lock:
            for job in self._open:
                if job.id is not None and job.id == id:
                    job.cancel(branch)


def _parse(line: bytes) -> Job:
    """The request in a line, or a job that says why the line is not a request."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Job(None, error=f"a line is not JSON: {error}")
    if not isinstance(values, dict):
        return Job(None, error="a request must be an object with an op and an id")
    id, op = values.get("id"), values.get("op")
    is_id = id is None or type(id) in (str, int)
    job = Job(id if is_id else None, op if isinstance(op, str) else "", values)
    if job.op == "cancel":
        return job
    if not is_id:
        job.error = "the id of a request must be a text or a whole number"
    elif job.op not in REQUESTS:
        job.error = f"there is no such op; use one of {', '.join(sorted(REQUESTS))}"
    return job
