"""The keys that were pressed, in a corner of the screen."""

from __future__ import annotations

from collections import deque

from textual.content import Content
from textual.widgets import Static

SHOWN = 4
"""Number of keys that are shown."""


class Pressed(Static):
    """The newest keys, the last one at the right."""

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self._keys: deque[str] = deque(maxlen=SHOWN)

    def clear(self) -> None:
        """Forget the keys."""
        self._keys.clear()
        self.update("")

    def add(self, key: str) -> None:
        """Show another key."""
        self._keys.append(key)
        self.update(Content("  ".join(self._keys)))
