"""Keys act in the order in which they are pressed, also those of before the first frame.

Textual sends a key to the widget with the focus, and reads the next one before that widget, or one
around it, has acted. Keys that come in one read would go to a field that the first of them leaves,
and those that come before anything has the focus would be lost.
"""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Any

from textual import events, on
from textual.app import App
from textual.message import Message
from textual.timer import Timer

LONGEST = 0.5
"""Seconds that what was typed waits for a key whose widget is gone before it has acted."""


class Acted(Message):
    """Follows a key through the same widgets: when it arrives, the key has acted."""

    def __init__(self, key: events.Key) -> None:
        super().__init__()
        self.key = key


class KeysInOrder(App[Any]):
    """An application that reads the next key only when the last one has acted."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.acting: events.Key | None = None
        """The key that some widget has still to act on."""
        self._typed = deque[events.Event]()
        """What came after it."""
        self._drawn_at = math.inf
        """When the first frame was drawn."""
        self._patience: Timer | None = None

    def on_mount(self) -> None:
        """Begin to read keys after the first frame."""
        self.call_after_refresh(self._begin)

    async def _begin(self) -> None:
        self._drawn_at = time.monotonic()
        await self._read_on()

    async def on_event(self, event: events.Event) -> None:
        """Hold back what is typed while a key is acting."""
        is_typed = isinstance(event, events.InputEvent | events.Paste) and not event.is_forwarded
        if is_typed and self._drawn_at == math.inf:
            self._typed.append(event)
        elif is_typed and self.acting:
            self._typed.append(event)
            self._wait()
        elif is_typed and isinstance(event, events.Key):
            self.acting = event
            if event.key == "ctrl+j" and event.time < self._drawn_at:
                # Until this program read single keys, the terminal made this of an Enter.
                await self.act(events.Key("enter", "\r"))
            else:
                await self.act(event)
            where = self.focused or self.screen if self.screen_stack else None
            if not (where and where.post_message(Acted(event))):
                await self._read_on()
        else:
            await self.act(event)

    async def act(self, event: events.Event) -> None:
        """Let an event act, in its turn."""
        await super().on_event(event)

    @on(Acted)
    async def _acted(self, event: Acted) -> None:
        if event.key is self.acting:
            await self._read_on()

    async def _read_on(self) -> None:
        """Read what was typed in the meantime, up to the next key."""
        if self._patience:
            self._patience.stop()
        self.acting = self._patience = None
        while self._typed and not self.acting:
            await self.on_event(self._typed.popleft())
        if self._typed:
            self._wait()

    def _wait(self) -> None:
        """Read on in any case after a moment."""
        self._patience = self._patience or self.set_timer(LONGEST, self._read_on)
