"""Server-sent events: from bytes in any pieces to the data of each event.

The format is that of the HTML standard, section 9.2. Lines end with CR, LF or both, and with
nothing else: JSON may contain other characters that Python counts as line ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpt.errors import UserError

_LINE = re.compile(rb"\r\n|\n|\r(?!\Z)")  # a CR at the end may be half of a CR LF
_DONE = b"[DONE]"


class Events:
    """Takes bytes and gives the data of each event."""

    def __init__(self, largest: int) -> None:
        """largest: most bytes of an event."""
        self._largest = largest
        self._parts: list[bytes] = []
        """The beginning of a line, as it came."""
        self._data: list[bytes] = []
        """Data of the event in hand."""
        self._size = 0
        """Bytes of both."""
        self.is_complete = False
        """Whether there was any event, or the mark that ends a stream."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of the events that these bytes complete."""
        self._parts.append(chunk)
        self._size += len(chunk)
        if b"\n" in chunk or b"\r" in chunk:  # a long line in many pieces is joined once
            data = b"".join(self._parts)
            *lines, rest = _LINE.split(data) if b"\r" in data else data.split(b"\n")
            self._parts = [rest]
            for line in lines:
                yield from self._line(line)
            self._size = len(rest) + sum(map(len, self._data))
        if self._size > self._largest:
            raise UserError(f"the server sent an event of more than {self._largest:,} bytes")

    def end(self) -> Iterator[bytes]:
        """The data of the last event, if no empty line follows it."""
        yield from self._line(b"".join(self._parts).rstrip(b"\r"))
        self._parts = []
        yield from self._line(b"")

    def _line(self, line: bytes) -> Iterator[bytes]:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif not line and self._data:
            data = b"\n".join(self._data)
            self._data = []
            self.is_complete = True
            if data.strip() != _DONE:
                yield data
