"""A terminal that may vanish: its window is closed, the connection to it is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any

from textual.driver import Driver


class _Output:
    """What Textual's writing thread writes to.

    An error would end that thread, and whoever waits for room in its queue would wait for ever:
    what comes after the first one is dropped, and the rest of the program told once.
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


def outliving(kind: type[Driver], vanished: Callable[[], object]) -> type[Driver]:
    """A Textual driver for a terminal that may vanish.

    vanished: called from another thread when it has.
    """

    class Outliving(kind):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            if file := getattr(self, "_file", None):  # one that writes to a terminal
                self._file = _Output(file, vanished)

    return Outliving
