"""The lines that answer one request: any number of parts, then exactly one end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import IO, Any

from gpt.protocol.inbox import Job
from gpt.step import Step

BATCH_SECONDS = 0.016
"""Steps are sent once a screen frame, so that no reader has more than that to do at a time."""
BATCH_STEPS = 64
TELL_SECONDS = 0.3
"""Between two words on how far a long request is, and before the first."""


class NobodyListensError(Exception):
    """What the engine answers can no longer be written."""


class Reply:
    """What is written about a request."""

    def __init__(self, output: IO[str], job: Job) -> None:
        self._output, self._job = output, job
        self.has_steps = False
        """Whether Steps were sent, so that the request cannot be answered anew."""
        self._told = time.perf_counter()

    @property
    def op(self) -> str:
        """What was asked for."""
        return self._job.op

    def is_cancelled(self) -> bool:
        """Whether nobody waits for more of it."""
        return self._job.is_cancelled()

    def tell(self, message: str) -> None:
        """Say how far a long request is, at most a few times a second."""
        if time.perf_counter() - self._told >= TELL_SECONDS:
            self.send("status", message=message)
            self._told = time.perf_counter()

    def stream(self, event: str, steps: Iterator[Step]) -> tuple[int, Step | None]:
        """Send steps in batches; how many there were, and the last one."""
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
        """Send the answer, or that it was cancelled."""
        if self.is_cancelled():
            self.send_cancelled()
        else:
            self.send(event, **fields)

    def send_cancelled(self) -> None:
        """The end of a request that nobody waits for."""
        self.send("done", finish_reason="cancelled", tokens=0, seconds=0.0)

    def send(self, event: str, **fields: Any) -> None:
        """One line. Raises NobodyListensError if nobody can take it."""
        line = {"id": self._job.id, "event": event, **fields}
        try:
            self._output.write(json.dumps(line, ensure_ascii=True, separators=(",", ":")) + "\n")
            self._output.flush()
        except OSError as error:
            raise NobodyListensError from error

    def _send_steps(self, event: str, batch: list[dict[str, Any]]) -> None:
        self.send(event, steps=batch)
        self.has_steps = True
