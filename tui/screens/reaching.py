"""What a view of the inside wants: texts from the person, or that the model writes in its way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from textual import on

from gpt.errors import UserError
from gpt.interventions import check
from gpt.sanitize import one_line
from tui.changes import said, without
from tui.document import Node
from tui.inside.view import InsideView
from tui.inside.wishes import Ask, Typed, WriteWith
from tui.labels import sentence, shortened
from tui.screens.dialog import Page

if TYPE_CHECKING:
    from gpt.interventions import Intervention
    from tui.inside.place import Place
    from tui.session import Session

WHOLE = "The model writes with the whole network again."
MOST_BRANCHES = 100
"""Other branches that a text can be compared with."""


class Reaching(Page):
    """Answers the wishes of views; a subclass has the session and the place."""

    _session: Session
    place: Place

    def other_branches(self) -> Sequence[Sequence[Node]]:
        """The branches of the text that are not on the screen."""
        document, here = self._session.document, set(self.place.nodes)
        ends = [branch.end for branch in document.all_branches() if branch.end not in here]
        return [document.path_to(end) for end in ends[:MOST_BRANCHES]]

    @on(Ask)
    def _fill(self, event: Ask) -> None:
        """Let the person fill the fields that a view asks for."""
        from tui.screens.fields import FieldsScreen

        def filled(typed: list[Typed] | None) -> None:
            if typed is not None:
                event.then(typed)

        loaded = self._session.loaded
        joins = loaded is not None and loaded.has_words
        self.app.push_screen(FieldsScreen(self._session.backend, event, joins_spaces=joins), filled)

    @on(WriteWith)
    def _write_with(self, event: WriteWith) -> None:
        """Let the model continue the text with what a view changes."""
        try:
            check(event.changes, self.place.config, len(self.place.nodes))
        except UserError as error:
            self.notify(shortened(sentence(str(error))), severity="error", markup=False)
            return
        self._act(self.place, event.changes)
        words = said(event.changes)
        message = (
            f"The model now writes with {words}; K goes back to the whole network."
            if words
            else WHOLE
        )
        self.notify(one_line(message), markup=False)

    def action_whole_network(self) -> None:
        """End the changes that the model writes with; what is only tried here goes on."""
        acting = self.place.acting
        if not acting:
            self.notify("The model writes with the whole network already.", markup=False)
            return
        self._act(replace(self.place, changes=without(self.place.changes, acting)), ())
        self.notify(WHOLE, markup=False)

    def _act(self, place: Place, changes: tuple[Intervention, ...]) -> None:
        """Let the model write with these changes, and look at a place."""
        self._session.document.changes = changes
        if self._session.document.path:
            self._session.keep()
        self.post_message(InsideView.Chose(replace(place, acting=changes)))
