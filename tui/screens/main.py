"""The screen: text, prompt, the selected token and the settings, wired to a backend."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual import on
from textual.actions import SkipAction
from textual.app import ComposeResult, SuspendNotSupported
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from gpt.errors import UserError
from tui.backend import Connect, Connection
from tui.document import Document
from tui.measure import perplexity
from tui.screens.asking import Asking
from tui.screens.branching import Branching
from tui.screens.comparing import Comparing
from tui.screens.keeping import Keeping
from tui.screens.modelling import Modelling
from tui.screens.parts import READY
from tui.store import Place
from tui.widgets.hints import Hints
from tui.widgets.inspector import Inspector
from tui.widgets.prompt import Prompt
from tui.widgets.status import Status
from tui.widgets.token_view import TokenView
from tui.widgets.waterfall import WaterfallTable

if TYPE_CHECKING:
    from tui.app import GPTApp
    from tui.widgets.controls import Controls


class MainScreen(Keeping, Branching, Asking, Comparing, Modelling):
    """One document and one model."""

    AUTO_FOCUS = "Prompt"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (72, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-low"), (22, "-high")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "home", "stop", id="stop"),
        Binding("ctrl+c", "interrupt", "stop", show=False, priority=True, id="interrupt"),
        Binding("ctrl+n", "new_text", "new text", id="new_text"),
        Binding("f1", "app.toggle_help", "help", show=False, id="help"),
        # A field for several lines has these two for itself.
        Binding("f6", "preferences", "settings", show=False, priority=True, id="preferences"),
        Binding("f7", "editor", "editor", show=False, priority=True, id="editor"),
        Binding("ctrl+l", "jump", "jump", show=False, id="jump"),
        Binding("pageup", "page(-1)", "page up", show=False, id="page_up"),
        Binding("pagedown", "page(1)", "page down", show=False, id="page_down"),
    ]

    def __init__(
        self,
        connect: Connect,
        connection: Connection,
        model: str,
        *,
        prompt: str = "",
        text: Path | None = None,
        score: str = "",
        seed: int | None = None,
        length: int | None = None,
        chat: bool = False,
        dials: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.connect = connect
        self.model = model
        self.backend, self.answers = connection
        self.first_prompt = prompt
        self._first_text = text
        self._first_score = score
        given = {"seed": seed, "length": length}
        self._dials = {**(dials or {}), **{k: v for k, v in given.items() if v is not None}}
        self._chat = chat
        self.controls: Controls | None = None
        self.document = Document()
        self.is_writing = False
        """A completion is running or waits for the model."""

    def compose(self) -> ComposeResult:
        """What the first frame needs: where the person writes and where the text will be."""
        yield Status(id="status")
        with Horizontal():
            with Vertical(id="left"):
                yield TokenView(id="text")
                yield WaterfallTable(id="waterfall")
                yield Prompt(id="prompt", placeholder="Write a beginning; the model goes on.")
            with Vertical(id="side"):
                yield Inspector(id="inspector")
        yield Vertical(id="foot")

    def on_mount(self) -> None:
        """Everything else comes after the first frame, while the model loads."""
        self.query_one(TokenView).show(self.document.path)
        self.say(READY)
        self.call_after_refresh(self._complete)

    async def _complete(self) -> None:
        """Fill the places that were kept, and begin."""
        gc.enable()
        from tui.widgets.controls import Controls

        controls = Controls(chat=self._chat)
        await self.query_one("#side").mount(controls)
        await self.query_one("#foot").mount(Hints())
        self.refresh_bindings()  # a footer that comes late has missed their signal
        for name, value in self._dials.items():
            if not controls.set(name, value):
                self.complain(f"there is no setting {name!r} to begin with")
        self.controls = controls
        if self.focused is None:
            self.query_one(Prompt).focus()  # where a browser has not told that it has the focus
        self.load()
        self.open_text(self._first_text)
        if self._first_score:
            self.read(self._first_score)
        if self.first_prompt:
            self.send(self.first_prompt)
        cast("GPTApp", self.app).whole()

    @on(Prompt.Sent)
    def _prompt_sent(self, event: Prompt.Sent) -> None:
        self.send(event.text)

    @on(Prompt.Paged)
    def _prompt_paged(self, event: Prompt.Paged) -> None:
        self.action_page(event.by)

    def action_page(self, by: int) -> None:
        """Scroll the text, whatever has the focus."""
        view = self.query_one(TokenView)
        if by < 0:
            view.scroll_page_up()
        else:
            view.scroll_page_down()

    @on(TokenView.Selected)
    def show_token(self) -> None:
        """Bring everything that depends on the selected token up to date."""
        index = self.query_one(TokenView).index
        path = self.document.path
        self.query_one(Inspector).step = None if index is None else path[index].step
        status = self.query_one(Status)
        status.used = len(path)
        if not self.is_writing:  # a run counts for itself
            status.perplexity = perplexity(*self.document.surprisal())
        self.explain()

    def action_home(self) -> None:
        """Stop the model; else close the help; else lead back to the prompt."""
        self.backend.cancel()  # also what was asked of the model
        if self.is_writing:
            return
        if self.query("HelpPanel"):
            self.app.action_hide_help_panel()
        else:
            self.query_one(Prompt).focus()

    def action_interrupt(self) -> None:
        """Ctrl-C stops the model; where nothing is written it copies, as everywhere."""
        if self.is_writing:
            self.backend.cancel()
        elif self.query_one(TokenView).selection:
            self.action_copy()
        else:
            raise SkipAction

    def action_preferences(self) -> None:
        """How the program looks and which keys it has."""
        from tui.screens.preferences import PreferencesScreen

        if self.controls:
            self.app.push_screen(PreferencesScreen(self.controls.numbers()))

    def action_editor(self) -> None:
        """Write the prompt in the editor that the person has chosen."""
        from tui.editor import edit

        prompt = self.query_one(Prompt)
        text, problem = prompt.text, ""
        try:
            with self.app.suspend():  # which an error must not leave
                try:
                    text = edit(prompt.text)
                except UserError as error:
                    problem = str(error)
        except SuspendNotSupported:
            problem = "there is no terminal here for an editor"
        if problem:
            self.complain(problem)
            return
        prompt.text = text
        prompt.move_cursor(prompt.document.end)
        prompt.focus()

    def action_jump(self) -> None:
        """Go to any part of the screen by a letter."""
        from tui.screens.jump import JumpScreen

        self.app.push_screen(JumpScreen(self), lambda target: target.focus() if target else None)

    def action_new_text(self) -> None:
        """An empty document."""
        if not self.is_free():
            return
        self.begin_text(Document(), Place())
        status = self.query_one(Status)
        status.speed = status.first = None
        self.show_token()
        self.say(READY)
        self.query_one(Prompt).focus()

    def on_unmount(self) -> None:
        """No engine outlives its screen, and no text is lost."""
        self.backend.close()
        self.keep_at_last()
