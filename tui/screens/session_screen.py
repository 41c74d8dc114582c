"""The screen of a session: it draws what happens and knows what is possible now.

All state is the session's. The actions are in the subclasses, by subject.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import TYPE_CHECKING, TypeVar

from textual import actions, getters, on, work
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Input

from gpt.errors import UserError
from gpt.sanitize import one_line
from gpt.settings import Sampling
from gpt.step import Step
from gpt.word_ids import BYTES, forms
from tui import possible
from tui.backend import BackendError
from tui.document import Document, Node
from tui.keys import KEYS
from tui.labels import cut, shortened
from tui.news import Change, News, Problem, PromptReturned, State
from tui.possible import Refusal, Situation
from tui.screens.dialog import Sized
from tui.session import Session
from tui.widgets.inspector import Inspector
from tui.widgets.prompt import Prompt
from tui.widgets.status import Status
from tui.widgets.token_view import TokenView
from tui.widgets.waterfall import WaterfallTable, as_drawn

if TYPE_CHECKING:
    from tui.widgets.controls import Controls

T = TypeVar("T")
_IN_THE_FOOTER = [actions.parse(key.action.removeprefix("screen.")) for key in KEYS if key.show]


class SessionScreen(Sized, Screen[None]):
    """A session and the widgets that show it."""

    status = getters.query_one(Status)
    view = getters.query_one("#text", TokenView)
    table = getters.query_one(WaterfallTable)
    prompt = getters.query_one(Prompt)
    inspector = getters.query_one(Inspector)

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.controls: Controls | None = None
        """The sampling settings, from a moment after the first frame."""
        self.early_prompt = ""
        """Prompt to send as soon as the sampling settings exist."""
        self._offered: list[bool | None] = []

    @property
    def document(self) -> Document:
        """The text on the screen."""
        return self.session.document

    @property
    def step(self) -> Step | None:
        """The numbers of the selected token; None without a text."""
        return None if self.view.index is None else self.document.path[self.view.index].step

    @property
    def is_writing(self) -> bool:
        """A run, a reading or a comparison is in progress, or waits for the model."""
        return self.session.is_busy

    # What is possible now.

    def situation(self) -> Situation:
        """What the table of possible actions depends on."""
        return Situation(
            self.session.document,
            self.view.index,
            is_busy=self.session.is_busy,
            has_settings=self.controls is not None,
            has_typed=self.prompt.has_text,
            searched=self.session.searched,
            is_in_browser=self.app.is_web,
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
        if now != self._offered:
            self._offered = now
            self.refresh_bindings()

    # Messages.

    def say(self, state: str) -> None:
        """Show what the program is doing, below the prompt."""
        # A plain string would be parsed as markup.
        self.prompt.border_subtitle = Content(one_line(state))

    def complain(self, message: str) -> None:
        """Show an error message."""
        self.notify(shortened(message), severity="error", markup=False, timeout=10)

    async def answer(self, question: Awaitable[T]) -> T | None:
        """Wait for an answer of the model; None after an error message."""
        try:
            return await question
        except BackendError as error:
            self.complain(str(error))
            return None

    def give_back(self, text: str) -> None:
        """Put a prompt back into its field, before what was typed since."""
        self.prompt.text = text + self.prompt.text
        self.prompt.move_cursor(self.prompt.document.end)

    # Drawing.

    @work(group="load")
    async def load(self) -> None:
        """Draw how the model loads."""
        async for news in self.session.load():
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
                self.view.show(self.document.path)
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
                self._show_model()

    def show_path(self, position: int | None = None) -> None:
        """Draw the path, with this token selected."""
        self.view.show(self.document.path)
        if position is not None and self.document.path:
            self.view.action_select(position)
        self.show_token()

    @on(TokenView.Selected)
    def show_token(self) -> None:
        """Update everything that depends on the selected token."""
        index = self.view.index
        self.inspector.is_prompt = index is None or self.document.path[index].is_prompt
        self.inspector.step = self.step
        self.show_status()
        self.explain()
        self.offer()

    def show_status(self) -> None:
        """Update the line of facts."""
        status, session = self.status, self.session
        status.model, status.waiting = session.loaded, session.waiting
        status.speed, status.first = session.figures.speed, session.figures.first
        status.perplexity = session.perplexity
        status.used = len(session.document.path)

    def _show_model(self) -> None:
        if self.session.loaded:
            self.inspector.vocab_size = self.session.loaded.vocab_size
        if self.controls:
            self.controls.words.clear()
            self.learn_words()

    # Running.

    def write(
        self,
        text: str = "",
        at: int | None = None,
        new_ids: Sequence[int] = (),
        length: int | None = None,
    ) -> bool:
        """Let the model continue after the path, new_ids and text; False after an error message.

        at: cut the path to its first `at` tokens before. length: most tokens of a single branch,
        instead of the settings for length and branches.
        """
        if self.controls is None:
            self.early_prompt = text
            return True
        if refused := self.refusal("write", ()):
            self.complain(refused.reason)
            return False
        try:
            settings = self.controls.settings(length)
        except UserError as error:
            self.complain(str(error))
            return False
        run = self.session.run(settings, text, at, new_ids)
        if at is not None:
            self.view.show(self.document.path)
        self.offer()
        self.follow(run)
        return True

    # Questions of the panels to the model.

    @on(Input.Changed)
    def explain(self) -> None:
        """Update the table of what the settings do, if it is visible."""
        index = self.view.index
        if not self.table.display or self.is_writing or self.controls is None:
            return
        if not index:
            self.table.found = None
            return
        try:
            sampling = self.controls.sampling(new_seed=False)
        except UserError:
            return  # a half-typed number: wait for the rest
        self._ask_waterfall(self.document.ids[:index], self.document.path[index], sampling)

    @work(group="waterfall", exclusive=True)
    async def _ask_waterfall(self, before: list[int], node: Node, sampling: Sampling) -> None:
        chosen = node.step.token_id
        found = await self.answer(self.session.backend.waterfall(before, chosen, sampling))
        if found is None:
            self.table.found = None
            return
        same = sampling == node.sampling
        self.table.chosen = chosen
        self.table.found = as_drawn(found, node.step, same_settings=same)

    @on(Prompt.Changed)
    def _cut(self) -> None:
        """Show the tokens of the prompt above it, if the model is free."""
        self.offer()
        if not self.prompt.has_text:
            self.prompt.border_title = ""
        elif not self.is_writing and self.session.loaded:
            self._ask_tokens(self.prompt.text, self.session.loaded.vocab_size)

    @work(group="tokens", exclusive=True)
    async def _ask_tokens(self, text: str, vocab_size: int) -> None:
        try:
            parts = (await self.session.backend.tokens(text)).parts
        except BackendError as error:
            self.prompt.border_title = Content(one_line(str(error)))
        else:
            self.prompt.border_title = Content(cut(parts, joins_spaces=vocab_size > BYTES))

    @on(Input.Changed, "#banned, #boosted")
    @work(group="words", exclusive=True)
    async def learn_words(self) -> None:
        """Ask for the tokens of banned and boosted words."""
        controls, model = self.controls, self.session.loaded
        if controls is None or model is None:
            return
        for word in controls.unknown_words():
            try:
                cut = [
                    await self.session.backend.tokens(form)
                    for form in forms(word, model.vocab_size)
                ]
            except BackendError as error:
                self.complain(f"{word!r}: {error}")
            else:
                controls.words[word] = tuple(tokens.ids for tokens in cut)
        controls.check()
        self.explain()
