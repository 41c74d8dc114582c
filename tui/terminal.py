"""Drivers for bad terminals: absurd sizes, lost connections, bytes that are not text."""

from __future__ import annotations

import codecs
import select
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import IO, Any

from textual import events
from textual._xterm_parser import XTermParser
from textual.driver import Driver
from textual.geometry import Size
from textual.message import Message

LARGEST = Size(1000, 400)
"""Most columns and rows that are drawn: each cell costs memory and time."""


def clamped(size: Size) -> Size:
    """The size, limited to what can be drawn."""
    return Size(max(1, min(size.width, LARGEST.width)), max(1, min(size.height, LARGEST.height)))


def has_vanished() -> bool:
    """Whether the other end of the terminal is closed."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(0, select.POLLIN)
    gone = select.POLLHUP | select.POLLERR | select.POLLNVAL
    return any(state & gone for _, state in poll.poll(0))


class _Output:
    """The file that Textual's writing thread writes to.

    An error would end that thread, and others would wait for its queue for ever. So output after
    the first error is dropped, and `vanished` is called once.
    """

    def __init__(self, file: IO[str], vanished: Callable[[], object]) -> None:
        self._file = file
        self._vanished = vanished
        self._is_there = True

    def write(self, text: str) -> None:
        self._try(lambda: self._file.write(text))

    def flush(self) -> None:
        self._try(self._file.flush)

    def fileno(self) -> int:
        return self._file.fileno()

    def _try(self, act: Callable[[], object]) -> None:
        if self._is_there:
            try:
                act()
            except OSError:
                self._is_there = False
                self._vanished()


class Pastes:
    """Removes escape characters from pasted text.

    Textual would read an escape sequence inside a paste as keys, so a pasted text could press keys.
    """

    BEGIN, END = "\x1b[200~", "\x1b[201~"

    def __init__(self) -> None:
        self._is_inside = False
        self._kept = ""
        """The end of the previous data, which may be the beginning of a mark."""

    def clean(self, data: str) -> str:
        """Data of the terminal → the same without them. Data may be split anywhere."""
        found = []
        while data:
            mark = self.END if self._is_inside else self.BEGIN
            whole = self._kept + data
            at = whole.find(mark)
            end = len(whole) if at < 0 else at + len(mark)
            if self._is_inside:  # the end of a paste always comes, so its mark can wait
                text = whole[:at] if at >= 0 else whole
                kept = "" if at >= 0 else _beginning_of(mark, text)
                found.append(text.removesuffix(kept).replace("\x1b", ""))
                found.append(mark if at >= 0 else "")
            else:  # an escape may be a key press, which must not wait
                found.append(whole[len(self._kept) : end])
                kept = "" if at >= 0 else whole[1 - len(mark) :]
            data, self._kept = whole[end:], kept
            self._is_inside ^= at >= 0
        return "".join(found)


def _beginning_of(mark: str, text: str) -> str:
    """The longest beginning of a mark that a text ends with."""
    return next(mark[:n] for n in range(len(mark) - 1, -1, -1) if text.endswith(mark[:n]))


class _Parser(XTermParser):
    def __init__(self, debug: bool = False) -> None:
        super().__init__(debug)
        self._pastes = Pastes()

    def feed(self, data: str) -> Iterable[Message]:
        return super().feed(self._pastes.clean(data) if data else data)

    def tick(self) -> Iterable[Message]:
        if has_vanished():  # reading would return nothing for ever
            raise OSError("the terminal is gone")
        return super().tick()


def _forgiving(encoding: str) -> Callable[[], codecs.IncrementalDecoder]:
    """Like codecs.getincrementaldecoder; bytes that are not text become U+FFFD."""
    return partial(codecs.getincrementaldecoder(encoding), "replace")


def outliving(kind: type[Driver], vanished: Callable[[], object]) -> type[Driver]:
    """A subclass of a Textual driver that survives a bad terminal.

    vanished: called from another thread when the terminal is lost.
    """

    reader = sys.modules[kind.__module__]
    for name, ours in (("XTermParser", _Parser), ("getincrementaldecoder", _forgiving)):
        if hasattr(reader, name):  # used by its input thread
            setattr(reader, name, ours)

    class Outliving(kind):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            if file := getattr(self, "_file", None):  # the driver writes to a terminal
                self._file = _Output(file, vanished)

        def run_input_thread(self) -> None:
            """Read keys; input that cannot be parsed is dropped."""
            while not self.exit_event.is_set():
                try:
                    super().run_input_thread()
                except OSError:
                    vanished()
                    return
                except Exception:  # noqa: S112  a senseless sequence
                    continue

        def process_message(self, message: Message) -> None:
            """Limit the size that the terminal reports."""
            if isinstance(message, events.Resize):
                size = clamped(message.size)
                message = events.Resize(size, size, size, message.pixel_size)
            super().process_message(message)

        def _get_terminal_size(self) -> tuple[int, int]:
            size = clamped(Size(*super()._get_terminal_size()))
            return size.width, size.height

    return Outliving
