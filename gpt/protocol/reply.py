"""The lines that answer one request: any number of parts, then exactly one end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, TypeVar

from gpt.protocol.inbox import Job
from gpt.step import FinishReason, Step

BATCH_SECONDS = 0.016
"""Steps are sent at most once in this time, a frame of a screen, so that a reader is not busy."""
BATCH_STEPS = 64
"""Most Steps in a line."""
TELL_SECONDS = 0.3
"""Seconds before the first message about the progress of a request, and between two of them."""


Branch = TypeVar("Branch", int, None)


class NobodyListensError(Exception):
    """Answers can no longer be written: the reader has closed its end."""


def common_reason(reasons: Iterable[FinishReason | None]) -> FinishReason | None:
    """Why all branches ended; None if for different reasons.

    reasons: of each branch; None if nobody waited for its next token.
    """
    found: set[FinishReason] = {reason or "cancelled" for reason in reasons}
    return found.pop() if len(found) == 1 else None


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

    def is_cancelled(self, branch: int | None = None) -> bool:
        """Whether the request, or this branch of it, was cancelled."""
        return self._job.is_cancelled(branch)

    def tell(self, message: str) -> None:
        """Send a message about the progress, at most once in TELL_SECONDS."""
        if time.perf_counter() - self._told >= TELL_SECONDS:
            self.send("status", message=message)
            self._told = time.perf_counter()

    def stream(self, event: str, steps: Iterator[Step]) -> tuple[int, Step | None]:
        """Send steps in batches. Returns their number and the last one."""
        count, last = self._stream(event, ((None, step) for step in steps))
        return count, last.get(None)

    def stream_branches(self, steps: Iterator[tuple[int, Step]]) -> tuple[int, dict[int, Step]]:
        """Send steps in batches, each with its branch. Returns their number and each last one."""
        return self._stream("steps", steps)

    def _stream(
        self, event: str, steps: Iterator[tuple[Branch, Step]]
    ) -> tuple[int, dict[Branch, Step]]:
        batches: dict[Branch, list[dict[str, Any]]] = {}
        last: dict[Branch, Step] = {}
        count, sent = 0, 0.0
        for branch, step in steps:
            last[branch] = step
            batch = batches.setdefault(branch, [])
            batch.append(step.to_dict())
            count += 1
            now = time.perf_counter()
            if now - sent >= BATCH_SECONDS or len(batch) >= BATCH_STEPS:
                self._send_steps(event, batches)
                batches, sent = {}, now
        self._send_steps(event, batches)
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

    def _send_steps(self, event: str, batches: Mapping[Branch, list[dict[str, Any]]]) -> None:
        for branch, batch in batches.items():
            named: dict[str, Any] = {} if branch is None else {"branch": branch}
            self.send(event, **named, steps=batch)
            self.has_steps = True
