"""The inside of the network: one place in it, seen by several views; asks the model for them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from textual import getters, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.timer import Timer

from gpt.config import ModelConfig
from gpt.interventions import Intervention
from tui.backend import BackendError, CancelledAnswerError
from tui.changes import said
from tui.document import Document
from tui.inside.about import ABOUT
from tui.inside.place import Answers, Place, Question
from tui.inside.tabs import Tabs, digit
from tui.inside.view import InsideView
from tui.inside.views import VIEWS
from tui.labels import shortened
from tui.screens.reaching import Reaching
from tui.session import Session
from tui.widgets.hints import Hints
from tui.widgets.token_view import TokenView

_VIEW_KEY = "inside_screen.view_"
PAUSE = 0.08
"""Seconds that the cursor must rest before the model is asked."""
PATIENT = 0.3
"""Seconds after which an answer counts as slow: then Esc stops it and does not close the screen."""


@dataclass
class Chosen:
    """What was looked at last, for the next time."""

    view: int = 0
    """Index among the views."""
    layer: int | None = None
    """None: the last one."""
    head: int = 1
    is_middle: bool = False
    changes: tuple[Intervention, ...] = ()
    """What was changed in the views that change the network."""
    model: str = field(default="", compare=False)
    """Layer and head are those of this model."""
    text: Document | None = field(default=None, compare=False)
    """The changes were tried on this text."""


class InsideScreen(Reaching):
    """The text around the token above, a view below; one cursor moves both."""

    CSS = """
    InsideScreen TokenView {
        height: 25%;
        min-height: 4;
        max-height: 10;
    }
    InsideScreen Tabs {
        height: 1;
        padding: 0 1;
    }
    InsideScreen #view {
        height: 1fr;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "move(-1)", "token", id="inside_screen.left"),
        Binding("right", "move(1)", "token", id="inside_screen.right"),
        Binding("up", "layer(-1)", "layer", id="inside_screen.up"),
        Binding("down", "layer(1)", "layer", id="inside_screen.down"),
        Binding("home", "select(1)", "first token", show=False, id="inside_screen.first"),
        Binding("end", "select(-1)", "last token", show=False, id="inside_screen.newest"),
        Binding("tab", "next_view(1)", "view", id="inside_screen.next"),
        Binding("shift+tab", "next_view(-1)", "previous view", show=False, id="inside_screen.last"),
        *(
            Binding(
                digit(n),
                f"view({n})",
                view.NAME,
                show=False,
                id=f"{_VIEW_KEY}{n + 1}",
                tooltip=ABOUT[view.NAME],
            )
            for n, view in enumerate(VIEWS)
        ),
        Binding("K", "whole_network", "undo changes", show=False, id="inside_screen.whole"),
        Binding("space", "app.help", "all keys", show=False, id="inside_screen.help"),
        Binding("escape", "back", "back", id="inside_screen.back"),
    ]

    around = getters.query_one("#around", TokenView)
    tabs = getters.query_one(Tabs)

    def __init__(self, session: Session, config: ModelConfig, index: int, chosen: Chosen) -> None:
        """index: the selected token. chosen: what to show first; it is kept up to date."""
        super().__init__()
        self._session = session
        self.chosen = chosen
        if chosen.model != session.model:
            chosen.model, chosen.layer, chosen.head = session.model, None, 1
            chosen.text = None
        if chosen.text is not session.document:
            chosen.text, chosen.changes = session.document, ()
        layer = config.n_layer if chosen.layer is None else chosen.layer
        nodes = list(session.document.path)
        acting = session.document.changes
        self.place = Place(
            nodes,
            index,
            config,
            layer,
            chosen.head,
            chosen.is_middle,
            changes=chosen.changes or acting,
            acting=acting,
            branches=self.other_branches,
        )
        self.answers = Answers()
        self._views: dict[int, InsideView] = {}
        self._resting: Timer | None = None
        self._is_slow = False
        self._asked: Question | None = None
        """What the model is working on."""

    def compose(self) -> ComposeResult:
        """The text, the tabs, room for the views, the keys."""
        yield TokenView(id="around")
        yield Tabs([view.NAME for view in VIEWS])
        yield Container(id="view")
        yield Hints()

    async def on_mount(self) -> None:
        """Show the view of the last time."""
        self.around.can_focus = False
        self.around.show(self.place.nodes)
        self.around.action_select(self.place.index)
        await self.action_view(self.chosen.view)

    @property
    def view(self) -> InsideView | None:
        """The view that is shown; None before the first one is mounted."""
        return self._views.get(self.tabs.chosen)

    @property
    def help_begins_with(self) -> str:
        """Id of the key whose sentence says what is on the screen."""
        return f"{_VIEW_KEY}{self.tabs.chosen + 1}"

    # What is shown.

    async def action_view(self, index: int) -> None:
        """Show the view with this index."""
        if index not in self._views:
            self._views[index] = VIEWS[index](self.answers)
            await self.query_one("#view").mount(self._views[index])
        self.tabs.chosen = self.chosen.view = index
        for each, view in self._views.items():
            view.display = each == index
        self.set_focus(self._views[index])  # at once: the next key may be of this view
        self._look()

    async def action_next_view(self, by: int) -> None:
        """Show the next (1) or previous (-1) view."""
        await self.action_view((self.tabs.chosen + by) % len(VIEWS))

    def action_move(self, by: int) -> None:
        """Select another token."""
        self.around.action_move(by)

    def action_select(self, index: int) -> None:
        """Select a token; -1 is the last one."""
        self.around.action_select(index if index >= 0 else len(self.place.nodes) - 1)

    def action_layer(self, by: int) -> None:
        """Choose the layer below (1) or above (-1)."""
        if self.view:
            self.go(self.view.step(self.place, by))

    @on(TokenView.Selected)
    def _selected(self) -> None:
        index = self.around.index
        if index is not None and index != self.place.index:
            self.go(replace(self.place, index=index))

    @on(InsideView.Chose)
    def _chose(self, event: InsideView.Chose) -> None:
        self.go(event.place)

    def go(self, place: Place) -> None:
        """Look at another place."""
        if place == self.place:
            return
        self.place = place
        self.chosen.layer, self.chosen.head = place.layer, place.head
        self.chosen.is_middle, self.chosen.changes = place.is_middle, place.changes
        self.around.action_select(place.index)
        self._look()

    @on(InsideView.Changed)
    def _look(self) -> None:
        """Show the place, and ask for what is not known yet, once the cursor rests."""
        if not (view := self.view):
            return
        self.answers.forget_reasons()
        view.message = ""
        view.show(self.place)
        acting = said(self.place.acting)
        self.around.branch = f"{acting} · K undoes it" if acting else ""
        self._colour()
        if self._resting:
            self._resting.stop()
        missing = self._missing()
        if missing and missing == self._asked:
            return  # it is on its way
        self.workers.cancel_group(self, "inside")  # nobody waits for the old answer any more
        self._asked = None
        self._say("")
        if missing:
            self._resting = self.set_timer(PAUSE, self._ask)

    def _colour(self) -> None:
        """Colour the text by the view's numbers."""
        scale = self.view.scale(self.place) if self.view and self.place.index else None
        if scale:
            self.around.set_scale(scale)
        elif not self._missing():
            self.around.use_own_scale()

    # What is asked.

    def _missing(self) -> Question | None:
        """The most important question that has no answer."""
        if not self.view or not self.place.index:
            return None
        asked = self.view.questions(self.place)
        return next((each for each in asked if each not in self.answers), None)

    @work(group="inside", exclusive=True)
    async def _ask(self) -> None:
        slow = self.set_timer(PATIENT, self._tell_that_it_is_slow)
        try:
            while asked := self._missing():
                self._asked = asked
                await self._answer(asked)
                if (view := self.view) and not view.message:
                    view.redraw()
                self._colour()
            self._asked = None
            self._say("")
        finally:
            slow.stop()

    async def _answer(self, asked: Question) -> None:
        """Ask, and keep the answer or the reason why there is none."""
        look = self._session.backend.look
        try:
            found = await look(asked.op, asked.kind, self._tell, **dict(asked.fields))
        except CancelledAnswerError:
            self._refuse(asked, "Stopped. Any key that moves asks again.")
        except BackendError as error:
            self._refuse(asked, shortened(str(error)))
        else:
            self.answers.put(asked, found)

    def _refuse(self, asked: Question, reason: str) -> None:
        self.answers.put(asked, reason)
        if self.view:
            self.view.message = reason
            self.view.redraw()

    def _tell_that_it_is_slow(self) -> None:
        if not self._is_slow:
            self._tell("Asking the model")

    def _tell(self, message: str) -> None:
        """Say what a slow request is doing."""
        self._is_slow = True
        self._write(f"{message}; Esc stops")

    def _say(self, message: str) -> None:
        self._is_slow = False
        self._write(message)

    def _write(self, message: str) -> None:
        if view := self.view:
            view.tell(message)

    def action_back(self) -> None:
        """Stop a slow answer; else close."""
        if self._is_slow:
            self._session.backend.cancel()
        else:
            self.dismiss(None)
