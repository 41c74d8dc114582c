"""The real program in a pseudo-terminal, as the pictures and the recording see it."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

from docs.drawing import Row, rows
from tests.terminal import Terminal

QUIET = 0.4
"""Seconds without output after which the screen is taken as finished."""


class Program(Terminal):
    """gpt-tui with a home of its own. Everything that it draws is kept, with its time."""

    def __init__(self, home: Path, size: tuple[int, int], *arguments: str) -> None:
        self.begun = time.monotonic()
        self.drawn: list[tuple[float, str]] = []
        """Seconds since the start, and what was written: always whole frames."""
        # Dim letters become a colour, because not every terminal and not our drawing can dim them.
        looks = {"TEXTUAL_FILTERS": "dim", "GPT_TUI_HOME": str(home)}
        os.environ.pop("NO_COLOR", None)  # set to nothing is set, too
        super().__init__(*arguments, size=size, environment=looks)
        self.child.delaybeforesend = None

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begun

    @property
    def rows(self) -> list[Row]:
        """The cells of the screen."""
        return rows(self._screen)

    def read(self, timeout: float = 60) -> bool:
        """Draw what the program writes next, and keep it; whether it wrote something."""
        before = self._drawn
        wrote = super().read(timeout)
        if new := self.raw[before : self._drawn]:
            self.drawn.append((self.now, new))
        return wrote

    def rest(self, seconds: float) -> None:
        """Read for a time, as a person looks at the screen."""
        end = self.now + seconds
        while (left := end - self.now) > 0:
            self.read(left)

    def settle(self) -> None:
        """Read until the program writes nothing for a moment."""
        while self.read(QUIET):
            pass

    def see(self, pattern: str) -> None:
        """Wait for a text on the screen; end with a sentence if it does not come."""
        end = self.now + 60
        while not re.search(pattern, self.text):
            if self.now > end or not self.read():
                sys.exit(f"never seen: {pattern}; the last screen was:\n{self.text}")
