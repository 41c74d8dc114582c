"""The main screen: text, prompt, selected token and sampling settings of a session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.actions import SkipAction
from textual.app import ComposeResult, SuspendNotSupported
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.message import Message

from gpt.errors import UserError
from gpt.sanitize import one_line
from tui import garbage
from tui.keys import bindings
from tui.screens.compare_actions import CompareActions
from tui.screens.file_actions import FileActions
from tui.screens.token_actions import TokenActions
from tui.screens.tree_actions import TreeActions
from tui.session import READY, Session
from tui.widgets.hints import Hints
from tui.widgets.inspector import Inspector
from tui.widgets.prompt import Prompt
from tui.widgets.status import Status
from tui.widgets.token_view import TokenView
from tui.widgets.waterfall import WaterfallTable


@dataclass(frozen=True)
class Opening:
    """What the program starts with."""

    prompt: str = ""
    """Prompt to send at once."""
    text: Path | None = None
    """File of a saved text to open."""
    score: str = ""
    """Text to read."""
    seed: int | None = None
    length: int | None = None
    chat: bool = False
    dials: Mapping[str, float] = field(default_factory=dict)
    """Name of a sampling setting → value."""

    @property
    def values(self) -> dict[str, float]:
        """Name → value of all settings that are given."""
        given = {"seed": self.seed, "length": self.length}
        return {**self.dials, **{name: v for name, v in given.items() if v is not None}}


class MainScreen(TreeActions, TokenActions, CompareActions, FileActions):
    """One session. The base classes have its actions, by subject."""

    AUTO_FOCUS = "Prompt"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (72, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-low"), (22, "-high")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = bindings("everywhere")

    class Whole(Message):
        """All widgets are mounted."""

    def __init__(self, session: Session, opening: Opening | None = None) -> None:
        super().__init__(session)
        self._opening = opening or Opening()
        self.early_prompt = self._opening.prompt

    def compose(self) -> ComposeResult:
        """The widgets of the first frame: text, prompt and inspector."""
        yield Status(id="status")
        with Horizontal():
            with Vertical(id="left"):
                yield TokenView(id="text")
                yield WaterfallTable(id="waterfall")
                yield Prompt(id="prompt", placeholder="Type an opening line and press Enter…")
            with Vertical(id="side"):
                yield Inspector(id="inspector")
        yield Vertical(id="foot")

    def on_mount(self) -> None:
        """Show the first frame; the rest follows while the model loads."""
        self.session.report = self.draw
        self.view.show(self.document.path)
        self.draw(READY)
        self.call_after_refresh(self._complete)

    async def _complete(self) -> None:
        """Mount the settings and the footer, and start."""
        garbage.resume()
        from tui.widgets.controls import Controls

        controls = Controls(chat=self._opening.chat)
        await self.query_one("#side").mount(controls)
        await self.query_one("#foot").mount(Hints())
        self.refresh_bindings()  # the footer missed the first signal
        for name, value in self._opening.values.items():
            if not controls.set(name, value):
                self.complain(f"unknown sampling setting {name!r}")
        self.controls = controls
        if self.focused is None:
            self.prompt.focus()  # a browser may not have reported its focus
        self.load()
        self.open_text(self._opening.text)
        if self._opening.score:
            self.read(self._opening.score)
        if self.early_prompt and not self.write(self.early_prompt):
            self.give_back(self.early_prompt)
        self.post_message(self.Whole())

    @on(Prompt.Paged)
    def _prompt_paged(self, event: Prompt.Paged) -> None:
        self.action_page(event.by)

    def action_page(self, by: int) -> None:
        """Scroll the text by a page up (-1) or down (1)."""
        if by < 0:
            self.view.scroll_page_up()
        else:
            self.view.scroll_page_down()

    def action_home(self) -> None:
        """Stop the model; else close the help; else move to the prompt."""
        self.session.backend.cancel()  # also questions to the model
        if self.is_writing:
            return
        if self.query("HelpPanel"):
            self.app.action_hide_help_panel()
        else:
            self.prompt.focus()

    def action_interrupt(self) -> None:
        """Stop the model; else copy the selection; else leave Ctrl+C to other widgets."""
        if self.is_writing:
            self.session.backend.cancel()
        elif self.view.selection:
            self.action_copy()
        else:
            raise SkipAction

    def action_preferences(self) -> None:
        """Show the preferences."""
        from tui.screens.preferences import PreferencesScreen

        if self.controls:
            self.app.push_screen(PreferencesScreen(self.controls.numbers()))

    def action_editor(self) -> None:
        """Edit the prompt in the person's own editor."""
        from tui.editor import edit

        text, problem = self.prompt.text, ""
        try:
            with self.app.suspend():  # an error must not leave this block
                try:
                    text = edit(text)
                except UserError as error:
                    problem = str(error)
        except SuspendNotSupported:
            problem = "An editor needs a terminal that can be suspended."
        if problem:
            self.complain(problem)
            return
        self.prompt.text = text
        self.prompt.move_cursor(self.prompt.document.end)
        self.prompt.focus()

    def action_jump(self) -> None:
        """Move the focus to any widget by a letter."""
        from tui.screens.jump import JumpScreen

        self.app.push_screen(JumpScreen(self), lambda target: target.focus() if target else None)

    def on_unmount(self) -> None:
        """End the engine and save the text."""
        try:
            self.session.close()
        except UserError as error:  # no screen is left to show it
            self.app.exit(return_code=1, message=f"error: {one_line(str(error))}")
