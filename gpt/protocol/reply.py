"""The lines that answer one request: any number of parts, then exactly one end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import IO, Any

from gpt.protocol.inbox import Job
from gpt.step import Step

BATCH_SECONDS = 0.016
"""Steps are sent at most once in this time, a frame of a screen, so that a reader is not busy."""
BATCH_STEPS = 64
"""Most Steps in a line."""
TELL_SECONDS = 0.3
"""Seconds before the first message about the progress of a request, and between two of them."""


class NobodyListensError(Exception):
    """Answers can no longer be written: the reader has closed its end."""


class Reply:
    """Writes the answer to one request."""

    def __init__(self, output: IO[str], job: Job) -> None:
        self._output, self._job = output, job
        self.has_steps = False
        """Whether Steps were sent, so that the request cannot be run again."""
        self._told = time.perf_counter()

    @property
    def op(self) -> str:
        """Name of the operation."""
        return self._job.op

    def is_cancelled(self) -> bool:
        """Whether the request was cancelled."""
        return self._job.is_cancelled()

    def tell(self, message: str) -> None:
        """Send a message about the progress, at most once in TELL_SECONDS."""
        if time.perf_counter() - self._told >= TELL_SECONDS:
            self.send("status", message=message)
            self._told = time.perf_counter()

    def stream(self, event: str, steps: Iterator[Step]) -> tuple[int, Step | None]:
        """Send steps in batches. Returns their number and the last one."""
        batch: list[dict[str, Any]] = []
        count, last, sent = 0, None, 0.0
        for last in steps:
            batch.append(last.to_dict())
            count += 1
            now = time.perf_counter()
            if now - sent >= BATCH_SECONDS or len(batch) >= BATCH_STEPS:
                self._send_steps(event, batch)
                batch, sent = [], now
        if batch:
            self._send_steps(event, batch)
        return count, last

    def end(self, event: str, **fields: Any) -> None:
        """Send the last line: the answer, or that the request was cancelled."""
        if self.is_cancelled():
            self.send_cancelled()
        else:
            self.send(event, **fields)

    def send_cancelled(self) -> None:
        """Send the last line of a request that was cancelled."""
        self.send("done", finish_reason="cancelled", tokens=0, seconds=0.0)

    def send(self, event: str, **fields: Any) -> None:
        """Send one line. Raises NobodyListensError if the reader is gone."""
        line = {"id": self._job.id, "event": event, **fields}
        try:
            self._output.write(json.dumps(line, ensure_ascii=True, separators=(",", ":")) + "\n")
            self._output.flush()
        except OSError as error:
            raise NobodyListensError from error

    def _send_steps(self, event: str, batch: list[dict[str, Any]]) -> None:
        self.send(event, steps=batch)
        self.has_steps = True
