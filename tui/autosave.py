"""Saves a text in threads, one save after the other, while the program goes on; no widgets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gpt.errors import UserError
from tui.dials import Setup
from tui.document import Document
from tui.news import Problem
from tui.store import Place


class Autosave:
    """The file of a text, and the saves that are in progress."""

    def __init__(self, report: Callable[[Problem], object]) -> None:
        """report: called with the reason if a text cannot be saved."""
        self.place = Place()
        self.tasks: set[asyncio.Task[None]] = set()
        self._report = report
        self._turn = asyncio.Lock()
        self._saved: tuple[int, Setup | None] = 0, None
        """Version and setup of the document that was saved last, or is being saved."""

    def start(self, document: Document, model: str) -> None:
        """Start to save a document: a long one takes longer than a frame."""
        self._start(document, model, is_last=False)

    def move(self, document: Document, model: str, new: Document, place: Place) -> None:
        """Save a document for the last time, if it has changed; then another one has a place."""
        version, setup = self._saved
        # A copy of what another program has open needs more than a moved cursor.
        is_left_otherwise = self.place.path is not None and document.setup != setup
        if self.tasks or document.version != version or is_left_otherwise:
            self._start(document, model, is_last=True)
        else:
            self.place.release()
        self.place, self._saved = place, (new.version, new.setup)

    def _start(self, document: Document, model: str, *, is_last: bool) -> None:
        self._saved = document.version, document.setup
        save = self._save(self.place, document, model, is_last=is_last)
        task = asyncio.get_running_loop().create_task(save)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _save(self, place: Place, document: Document, model: str, *, is_last: bool) -> None:
        async with self._turn:
            try:
                await asyncio.to_thread(
                    place.save,
                    model,
                    list(document.nodes()),
                    list(document.path),
                    document.system,
                    document.changes,
                    document.setup,
                )
            except UserError as error:
                self._report(Problem(str(error)))
            if is_last:
                place.release()
