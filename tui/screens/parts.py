"""What the parts of the main screen have in common; each part is a file of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.content import Content
from textual.screen import Screen

from gpt.sanitize import one_line
from tui.backend import Backend, Completion
from tui.document import Document
from tui.store import Entry, Place
from tui.widgets.prompt import Prompt
from tui.widgets.token_view import TokenView

if TYPE_CHECKING:
    from tui.widgets.controls import Controls

READY = "Enter sends"


class Part(Screen[None]):
    """One document, one model, and words for the person."""

    document: Document
    place: Place
    """Where the document is saved."""
    model: str
    """The name or directory that the engine was asked for."""
    backend: Backend
    controls: Controls | None
    """The settings, once they are there."""
    is_writing: bool
    """The document grows by itself just now, or waits for the model to."""

    def say(self, state: str) -> None:
        """What the program is doing, below the prompt."""
        # A plain text here would be read as markup.
        self.query_one(Prompt).border_subtitle = Content(one_line(state))

    def complain(self, message: str) -> None:
        """Say what did not work."""
        self.notify(one_line(message), severity="error", markup=False, timeout=10)

    def give_back(self, text: str) -> None:
        """A prompt that came to nothing returns to its field, where nothing was written since."""
        prompt = self.query_one(Prompt)
        if not prompt.text:
            prompt.text = text
            prompt.move_cursor(prompt.document.end)

    def send(
        self,
        text: str,
        new_ids: int = 0,
        ids: list[int] | None = None,
        length: int | None = None,
    ) -> None:
        """Let the model go on from the document, or from ids, and text behind it.

        new_ids: how many of the ids, the last ones, are not in the document yet. length: tokens to
        draw at most; None is what the settings say.
        """
        raise NotImplementedError

    async def run_completion(self, request: Completion, branches: int) -> None:
        """Draw so many branches into the document, which was cut to where they begin."""
        raise NotImplementedError

    def keep(self) -> object:
        """Save the text soon."""
        raise NotImplementedError

    def show_token(self) -> None:
        """Bring everything that depends on the selected token up to date."""
        raise NotImplementedError

    def opened(self, entry: Entry) -> None:
        """Another text is in its place; entry says with which model it was written."""
        raise NotImplementedError

    def begin_text(self, document: Document, place: Place) -> None:
        """Put a text into the place of the one that is there, which stays on the disk."""
        self.place.release()
        self.document, self.place = document, place
        self.query_one(TokenView).show(document.path)
