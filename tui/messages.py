"""The messages of the application: how long each stays, and which one takes its place."""

from __future__ import annotations

import time
from typing import Any

from textual.notifications import Notify

from gpt.sanitize import one_line
from tui.key_order import KeysInOrder
from tui.possible import Refusal
from tui.screens.session_screen import PROBLEM_SECONDS

LONG_ENOUGH, LONG_ENOUGH_TO_TYPE = 1.0, 3.0
"""Seconds after which a message has been read: the next key takes it away. Who types looks at the
field, so that a letter leaves it longer."""


class Messages(KeysInOrder):
    """An application whose messages go when they are no longer about what a person does."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._seen = set[str]()
        """Messages that were on the screen at the last key."""
        self._refusals = set[str]()
        """Reasons why a key did nothing."""

    def on_notify(self, event: Notify) -> None:
        """A message replaces an equal one, and an information all older ones; problems stay until
        their time is over."""
        new = event.notification
        for old in list(self._notifications):
            are_both = new.severity == old.severity == "information"
            if are_both or (new.message, new.severity) == (old.message, old.severity):
                self._unnotify(old, refresh=False)

    def refuse(self, refused: Refusal) -> None:
        """Say why something is not done, until the next key."""
        said = one_line(refused.reason)
        self._refusals.add(said)
        self.notify(said, severity=refused.severity, markup=False, timeout=PROBLEM_SECONDS)

    def take_back(self, refused: Refusal) -> None:
        """End the message that said so: it is no longer true."""
        for old in list(self._notifications):
            if old.message == one_line(refused.reason):
                self._unnotify(old)

    def forget(self, *, is_letter: bool) -> None:
        """Take away what was said before the last key: it would read as the answer to this one.

        is_letter: the key writes into a field.
        """
        for old in list(self._notifications):
            is_answer = old.severity == "information" or old.message in self._refusals
            age = time.time() - old.raised_at
            was_seen = age > LONG_ENOUGH or old.identity in self._seen
            if is_letter:
                was_seen = age > LONG_ENOUGH_TO_TYPE
            if is_answer and was_seen:
                self._unnotify(old, refresh=False)
        self._seen = {each.identity for each in self._notifications}
        self._refresh_notifications()
