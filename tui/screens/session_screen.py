"""The screen of a session: it draws what happens and knows what is possible now.

All state is the session's. The actions are in the subclasses, by subject.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING, TypeVar

from textual import actions, getters, work
from textual.content import Content
from textual.screen import Screen

from gpt.capabilities import Capabilities
from gpt.sanitize import one_line
from gpt.step import Step
from tui import outline, possible
from tui.backend import BackendError, CancelledAnswerError
from tui.changes import described, said
from tui.document import Document
from tui.keys import KEYS
from tui.labels import sentence, shortened
from tui.news import Change, News, Problem, PromptReturned, State
from tui.possible import Refusal, Situation
from tui.screens.dialog import Sized
from tui.session import Session
from tui.widgets.inspector import Inspector
from tui.widgets.panels import Panels
from tui.widgets.prompt import Prompt
from tui.widgets.status import Status
from tui.widgets.token_view import TokenView
from tui.widgets.waterfall import WaterfallTable

if TYPE_CHECKING:
    from tui.widgets.controls import Controls

T = TypeVar("T")
_IN_THE_FOOTER = [actions.parse(key.action.removeprefix("screen.")) for key in KEYS if key.show]
_STOPS = frozenset({"home"})
PROBLEM_SECONDS = 15.0
"""How long a problem stays on the screen."""


class SessionScreen(Sized, Screen[None]):
    """A session and the widgets that show it."""

    status = getters.query_one(Status)
    view = getters.query_one("#text", TokenView)
    table = getters.query_one(WaterfallTable)
    prompt = getters.query_one(Prompt)
    inspector = getters.query_one(Inspector)
    panels = getters.query_one(Panels)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.controls: Controls | None = None
        """The sampling settings, from a moment after the first frame."""
        self.early_prompt = ""
        """Prompt to send as soon as the sampling settings exist."""
        self.said = ""
        """What the line below the prompt says."""
        self._offered: list[bool | None] = []
        self._said_ignored: tuple[str, ...] = ()
        """Settings of the latest run that the server ignores."""
        self._selected_before: int | None = None
        """The token that was selected before the latest run."""

    @property
    def document(self) -> Document:
        """The text on the screen."""
        return self.session.document

    @property
    def index(self) -> int | None:
        """Index of the selected token; None without one.

        Also until the text is drawn again after the token was cut off: a timer may come before.
        """
        index = self.view.index
        return index if index is not None and index < len(self.document.path) else None

    @property
    def step(self) -> Step | None:
        """The numbers of the selected token; None without a text."""
        return None if self.index is None else self.document.path[self.index].step

    @property
    def capabilities(self) -> Capabilities:
        """What the model can answer; until it is loaded, everything."""
        return self.session.loaded.capabilities if self.session.loaded else Capabilities()

    @property
    def left_out(self) -> frozenset[str]:
        """Actions that the footer does not offer: Esc stops only what is in progress."""
        return frozenset() if self.is_writing else _STOPS

    @property
    def is_writing(self) -> bool:
        """A run, a reading or a comparison is in progress, or waits for the model."""
        return self.session.is_busy

    # What is possible now.

    def situation(self) -> Situation:
        """What the table of possible actions depends on."""
        return Situation(
            self.session.document,
            self.index,
            is_busy=self.session.is_busy,
            is_branching=self.session.is_branching,
            has_settings=self.controls is not None,
            has_typed=self.prompt.has_text,
            searched=self.session.searched,
            can_go_back=self.session.can_go_back,
            is_in_browser=self.app.is_web,
            capabilities=self.capabilities,
        )

    def refusal(self, action: str, parameters: possible.Parameters) -> Refusal | None:
        """The reason against an action now; None if it is possible."""
        if action not in possible.NEEDS or not self.is_mounted:
            return None
        return possible.refusal(action, parameters, self.situation())

    def check_action(self, action: str, parameters: possible.Parameters) -> bool | None:
        """True, or None (grey in the footer) if it is not possible now; its key then says why."""
        return None if self.refusal(action, parameters) else True

    def offer(self) -> None:
        """Update the footer if other actions are possible now."""
        now = [self.check_action(action, parameters) for _, action, parameters in _IN_THE_FOOTER]
        now.append(self.is_writing)
        if now != self._offered:
            self._offered = now
            self.refresh_bindings()

    # Messages.

    def say(self, state: str) -> None:
        """Show what the program is doing, below the prompt."""
        self.said = state
        # A plain string would be parsed as markup.
        self.prompt.border_subtitle = Content(one_line(state))

    def complain(self, message: str) -> None:
        """Show an error message."""
        said = shortened(sentence(message))
        self.notify(said, severity="error", markup=False, timeout=PROBLEM_SECONDS)

    async def answer(self, question: Awaitable[T]) -> T | None:
        """Wait for an answer of the model; None after an error message."""
        try:
            return await question
        except CancelledAnswerError:
            return None
        except BackendError as error:
            self.complain(str(error))
            return None

    def give_back(self, text: str) -> None:
        """Put a prompt back into its field, before what was typed since."""
        self.prompt.restore(text + self.prompt.text)
        self.prompt.move_cursor(self.prompt.document.end)

    # Drawing.

    def load(self) -> None:
        """Draw how the model loads."""
        self._follow_load(self.session.load())  # a worker begins later: another request may come

    @work(group="load")
    async def _follow_load(self, loading: AsyncIterator[News]) -> None:
        async for news in loading:
            self.draw(news)

    @work(group="write")
    async def follow(self, run: AsyncIterator[News]) -> None:
        """Draw a run or a reading."""
        async for news in run:
            self.draw(news)

    def draw(self, news: News) -> None:
        """Draw one event."""
        match news:
            case State(message):
                self.say(message)
            case Problem(message):
                self.complain(message)
            case PromptReturned(text):
                self.give_back(text)
            case Change.PATH:
                self.show_text()
                self.view.branch = ""  # until it is known which one it becomes
            case Change.KEPT:
                self.show_path(self._selected_before)
            case Change.GREW:
                self.view.extend()
            case Change.COMPLETE:
                self.view.catch_up()
            case Change.LOOK | Change.ENDED:
                self.show_token()
            case Change.WAITING:
                self.show_status()
            case Change.LOADED:
                self.show_status()
                self.show_model()

    def show_text(self) -> None:
        """Draw the path."""
        document = self.document
        self.view.show(document.path, lambda position: document.branches(position) > 1)

    def show_path(self, position: int | None = None) -> None:
        """Draw the path, with this token selected."""
        self.show_text()
        if position is not None and self.document.path:
            self.view.action_select(position)
        self.show_token()

    def show_token(self) -> None:
        """Update everything that depends on the selected token."""
        index = self.index
        node = None if index is None else self.document.path[index]
        self.inspector.is_prompt = node is None or node.is_prompt
        self.inspector.inside = "" if node is None else described(node.changes)
        self.inspector.step = self.step
        self.show_status()
        self.offer()
        if not self.is_writing:
            self.view.branch = outline.title(self.document)

    def show_status(self) -> None:
        """Update the line of facts."""
        status, session = self.status, self.session
        status.model, status.waiting = session.loaded, session.waiting
        status.speed, status.first = session.figures.speed, session.figures.first
        status.perplexity, status.is_of_drawn = session.perplexity, session.is_of_drawn
        status.networks = session.n_networks
        status.used = len(session.document.path)
        acting = session.document.changes
        status.inside, status.inside_short = said(acting), said(acting, is_short=True)
        can_undo = not self.prompt.has_focus and not self.refusal("whole_network", ())
        status.undo = "K undoes it" * can_undo  # in the prompt, K is a letter

    def on_descendant_focus(self) -> None:
        """Name the keys that act where the focus is; Textual calls it in every base class."""
        if self.status.inside:
            self.show_status()

    def show_model(self) -> None:
        """Update what depends on the model."""
        if self.session.loaded:
            self.inspector.vocab_size = self.session.loaded.vocab_size
            self.inspector.capabilities = self.capabilities
            self.table.capabilities = self.capabilities
            self.table.vocab_size = self.session.loaded.vocab_size
