"""The real program in a pseudo-terminal: real bytes in, and the screen that a person would see.

pyte draws the screen, with its colours and its cursor. A test waits for a state of the screen or
of the machine and never for a time; how long it waits at most is PATIENCE, so that a machine with
much else to do makes no test fail.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pexpect
import pyte
import pytest

_NOT_PASSED_ON = {"COLUMNS", "LINES", "PYTHONUNBUFFERED"}
"""A size in the environment comes before the terminal's own, and people's output is buffered."""
PATIENCE = float(os.environ.get("PATIENCE", "300"))
"""Seconds after which a state that has not come is said to never come."""
NO_PTY = "" if hasattr(pexpect, "spawn") else "Windows has no pseudo-terminals"
needs_pty = pytest.mark.skipif(bool(NO_PTY), reason=NO_PTY)
WIDTH, HEIGHT = 120, 40
SIZES = ((120, 40), (80, 24), (60, 20))
"""Widths and heights at which everything must be usable."""
RESTORED = "\x1b[?1049l"
"""Leaves the alternate screen."""
ASKS_FOR_FRAMES, HAS_FRAMES = "\x1b[?2026$p", "\x1b[?2026;2$y"
FRAME, FRAME_ENDS = "\x1b[?2026h", "\x1b[?2026l"
"""Synchronized output: what is between them is one change of the screen."""

KEYS = {
    "enter": "\r",
    "escape": "\x1b",
    "tab": "\t",
    "shift+tab": "\x1b[Z",
    "backspace": "\x7f",
    "delete": "\x1b[3~",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "right": "\x1b[C",
    "left": "\x1b[D",
    "home": "\x1b[H",
    "end": "\x1b[F",
    "pageup": "\x1b[5~",
    "pagedown": "\x1b[6~",
    **{f"f{n}": f"\x1bO{letter}" for n, letter in enumerate("PQRS", 1)},
    **{f"f{n}": f"\x1b[{n + 10 + (n > 5)}~" for n in range(5, 10)},
    **{f"ctrl+{chr(96 + n)}": chr(n) for n in range(1, 27)},
}
"""The bytes that a terminal sends for a key."""


class Terminal:
    """gpt-tui in a pseudo-terminal."""

    def __init__(
        self,
        *arguments: str,
        program: str = "",
        size: tuple[int, int] = (WIDTH, HEIGHT),
        environment: dict[str, str] | None = None,
        compiles: bool = False,
    ) -> None:
        """program: another one than this interpreter's `-m tui`. size: (width, height).

        compiles: as without options, build machine code while the program runs. That takes half a
        minute of a core, and a test's program ends before it is done.
        """
        if NO_PTY:
            pytest.skip(NO_PTY)
        self.raw = ""
        """Everything that the program has written."""
        self._drawn = 0
        self._screen = pyte.Screen(*size)
        self._stream = pyte.Stream(self._screen)
        command = [*([] if program else ["-m", "tui"]), *arguments]
        if not (program or compiles):
            command.append("--no-compile")
        self.child = pexpect.spawn(
            program or sys.executable,
            command,
            dimensions=size[::-1],
            env={
                **{name: os.environ[name] for name in os.environ.keys() - _NOT_PASSED_ON},
                "TERM": "xterm-256color",
                "COLORTERM": "truecolor",
                "PYTHONUTF8": "1",
                **(environment or {}),
            },
            encoding="utf-8",
            codec_errors="replace",
            timeout=PATIENCE,
        )

    def read(self, timeout: float = PATIENCE) -> bool:
        """Draw what the program writes next; whether it wrote something."""
        try:
            data = self.child.read_nonblocking(65536, timeout=timeout)
        except (pexpect.EOF, pexpect.TIMEOUT):
            return False
        self.raw += data
        if ASKS_FOR_FRAMES in data:
            self.child.send(HAS_FRAMES)
        new = max(0, self._drawn - len(FRAME))  # the bytes of a mark may come in two reads
        begun = self.raw.rfind(FRAME, new)
        half = begun > self.raw.rfind(FRAME_ENDS, new)
        whole = max(self._drawn, begun) if half else len(self.raw)
        self._stream.feed(self.raw[self._drawn : whole])
        self._drawn = whole
        return True

    # What a person does.

    def press(self, *keys: str) -> None:
        """Keys by their names in KEYS, as far apart as a fast hand's; other text as it is."""
        for key in keys:
            self.child.send(KEYS.get(key, key))

    def storm(self, data: str) -> None:
        """Send many bytes, and read meanwhile as a terminal does: or both might wait for ever."""
        before, self.child.delaybeforesend = self.child.delaybeforesend, None
        sender = threading.Thread(target=self.child.send, args=(data,), daemon=True)
        sender.start()
        end = time.monotonic() + PATIENCE
        while sender.is_alive() and time.monotonic() < end:
            self.read(0.02)
        self.child.delaybeforesend = before

    def paste(self, text: str) -> None:
        """As a terminal with bracketed paste does it."""
        self.storm(f"\x1b[200~{text}\x1b[201~")

    def click(self, column: int, row: int, button: int = 0) -> None:
        """Press and let go of a mouse button; the top left cell is (0, 0)."""
        place = f"{column + 1};{row + 1}"
        self.child.send(f"\x1b[<{button};{place}M\x1b[<{button};{place}m")

    def resize(self, width: int, height: int) -> None:
        """The window is given another size."""
        self._screen.resize(height, width)
        self.child.setwinsize(height, width)

    def signal(self, number: signal.Signals) -> None:
        """A signal from outside."""
        self.child.kill(number)

    # What a person sees.

    @property
    def text(self) -> str:
        """The screen, a line a row."""
        return "\n".join(self._screen.display)

    def has_cursor(self, column: int, row: int) -> bool:
        """Whether a cell is drawn as a cursor: it looks otherwise than the one after it."""
        here, after = (self._screen.buffer[row][x] for x in (column, column + 1))
        return (here.fg, here.bg, here.reverse) != (after.fg, after.bg, after.reverse)

    def place(self, shown: str) -> tuple[int, int]:
        """Column and row of a text on the screen; fails with the screen if it is not there."""
        for row, line in enumerate(self._screen.display):
            if (column := line.find(shown)) >= 0:
                return column, row
        pytest.fail(f"{shown!r} is not on the screen:\n{self.text}")

    def colours(self, shown: str) -> tuple[str, str]:
        """Letters' and ground's colour of the first cell of a text, as "rrggbb"."""
        column, row = self.place(shown)
        cell = self._screen.buffer[row][column]
        return cell.fg, cell.bg

    # States.

    def until(self, seen: Callable[[str], object]) -> str:
        """Read until the screen shows something; fails with the screen if it never does."""
        deadline = time.monotonic() + PATIENCE
        while not seen(self.text):
            if time.monotonic() > deadline or not self.read():
                pytest.fail(f"never seen; the last screen was:\n{self.text}\n{self.raw[-400:]!r}")
        return self.text

    def shows(self, *patterns: str) -> str:
        """Read until all of these regular expressions are on one screen."""
        return self.until(lambda text: all(re.search(pattern, text) for pattern in patterns))

    def hides(self, pattern: str) -> str:
        """Read until a regular expression is not on the screen."""
        return self.until(lambda text: not re.search(pattern, text))

    def changes(self, before: str) -> str:
        """Read until the screen is another one."""
        return self.until(lambda text: text != before)

    def shows_cursor_after(self, shown: str) -> str:
        """Read until the cell after a text that is on the screen is drawn as a cursor."""
        column, row = self.place(shown)
        return self.until(lambda _: self.has_cursor(column + len(shown), row))

    def is_alive(self) -> bool:
        """Whether the program runs."""
        return bool(self.child.isalive())

    def end(self) -> int | None:
        """Read to the end; the exit status."""
        while self.read():
            pass
        self.child.wait()
        return self.child.exitstatus

    def quit(self) -> int | None:
        """Ctrl+Q, then as `end`."""
        self.press("ctrl+q")
        return self.end()

    def kill(self) -> None:
        """Whatever it does."""
        try:
            self.child.close(force=True)
        except pexpect.ExceptionPexpect:  # it was killed, but a busy machine takes its time
            self.child.wait()

    def engine(self) -> int:
        """The process that runs the model."""
        found = children(self.child.pid)
        assert found, "the program has no child process"
        return found[0]


def comes(state: Callable[[], bool]) -> bool:
    """Whether a state that no screen shows is reached."""
    deadline = time.monotonic() + PATIENCE
    while not (reached := state()) and time.monotonic() < deadline:
        time.sleep(0.01)  # so that what is waited for has the processor
    return reached


def gone(pid: int) -> bool:
    """Whether a process ends: a killed one still has its memory to give back."""

    return comes(lambda: all(pid != process for process, _ in running()))


def children(pid: int) -> list[int]:
    """Processes that a process has started and that run."""
    return [process for process, parent in running() if parent == pid]


def running() -> Iterator[tuple[int, int]]:
    """Id and parent's id of each process that runs; a zombie does not."""
    if Path("/proc/self/stat").exists():
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has ended in the meantime
                state, parent = stat.read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    yield int(stat.parent.name), int(parent)
    else:
        command = ["ps", "-A", "-o", "pid=,ppid=,stat="]
        for line in subprocess.check_output(command, text=True).splitlines():
            process, parent, state = line.split()
            if not state.startswith("Z"):
                yield int(process), int(parent)


def terminals(*begin: str) -> Iterator[Callable[..., Terminal]]:
    """For a fixture: what starts programs with these first arguments, and ends them after it."""
    started: list[Terminal] = []

    def start(*arguments: str, **how: object) -> Terminal:
        started.append(Terminal(*begin, *arguments, **how))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for terminal in started:
        terminal.kill()
