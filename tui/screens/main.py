"""The main screen: text, prompt, selected token and sampling settings of a session."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, NamedTuple

from textual import events, on
from textual.actions import SkipAction
from textual.app import ComposeResult, SuspendNotSupported
from textual.binding import BindingType
from textual.containers import Container
from textual.geometry import Size
from textual.message import Message

from gpt.errors import UserError
from gpt.sanitize import one_line
from tui import garbage, preferences
from tui.keys import bindings
from tui.runs import READY
from tui.screens.branch_actions import BranchActions
from tui.screens.compare_actions import CompareActions
from tui.screens.file_actions import FileActions
from tui.screens.live_panels import PLACEHOLDERS
from tui.screens.panel_actions import PanelActions
from tui.screens.presenter_actions import PresenterActions
from tui.screens.token_actions import TokenActions
from tui.session import Session
from tui.special_tokens import without_marks
from tui.widgets.hints import Hints
from tui.widgets.inspector import Inspector
from tui.widgets.panels import Panels
from tui.widgets.prompt import Prompt
from tui.widgets.status import Status
from tui.widgets.token_view import TokenView
from tui.widgets.waterfall import WaterfallTable
from tui.widgets.welcome import Welcome, openings_of

TWO, THREE = 90, 160
"""Least widths for two and for three columns."""
LOW, HIGH = 14, 30
"""Below LOW rows there are no panels; from HIGH rows on there is room for two, one over the other.
"""


class Opening(NamedTuple):
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
    system: str = ""
    """What the model of a chat is told before the first message."""
    dials: Mapping[str, float] = MappingProxyType({})
    """Name of a sampling setting → value."""

    @property
    def named(self) -> frozenset[str]:
        """Settings that the command line names: those of a saved text do not replace them."""
        found = {"seed": self.seed, "length": self.length, "chat": self.chat or None}
        return frozenset(name for name, value in found.items() if value is not None)

    @property
    def values(self) -> dict[str, float]:
        """Name → value of all settings that are given."""
        given = {"seed": self.seed, "length": self.length}
        return {**self.dials, **{name: v for name, v in given.items() if v is not None}}


class MainScreen(
    TokenActions,
    CompareActions,
    FileActions,
    BranchActions,
    PanelActions,
    PresenterActions,
):
    """One session. The base classes have its actions, by subject."""

    AUTO_FOCUS = "Prompt"
    BINDINGS: ClassVar[list[BindingType]] = bindings("everywhere")

    class Whole(Message):
        """All widgets are mounted."""

    def __init__(self, session: Session, opening: Opening | None = None) -> None:
        super().__init__(session)
        self._opening = opening or Opening()
        self.early_prompt = without_marks(self._opening.prompt)
        self._shown_labels: Mapping[str, str] = {}
        self.is_whole = False
        """All widgets are mounted."""

    def compose(self) -> ComposeResult:
        """The widgets of the first frame."""
        self._arrange(self.app.size)
        yield Status(id="status")
        with Container(id="body"):
            with Container(id="reading"):
                yield TokenView(id="text")
                yield Welcome(id="welcome")
            with Panels(id="side"):
                yield Inspector(id="token")
            yield WaterfallTable(id="waterfall")
            yield Prompt(id="prompt", placeholder=PLACEHOLDERS[self._opening.chat, False])
        yield Hints(id="foot")

    def on_mount(self) -> None:
        """Show the first frame; the rest follows while the model loads."""
        self.session.report = self.draw
        self.query_one(Welcome).openings = openings_of(self.session.model, chat=self._opening.chat)
        self.show_text()
        self.draw(READY)
        for name in ("chosen", "arrangement"):
            self.watch(self.panels, name, self.keep_focus, init=False)
        self.call_after_refresh(self._complete)

    async def _complete(self) -> None:
        """Mount the other panels, and start."""
        garbage.resume()
        from tui.widgets.branches import Branches
        from tui.widgets.controls import Controls
        from tui.widgets.layers import LayersPanel
        from tui.widgets.replacement import Replacement

        controls = Controls(chat=self._opening.chat, system=self._opening.system)
        panels = Branches(id="tree"), LayersPanel(id="layers"), controls
        await self.panels.mount(*panels)
        await self.query_one("#reading").mount(Replacement())
        self.panels.lay_out()
        for name, value in self._opening.values.items():
            if problem := controls.set(name, value):  # those of the command line were checked
                self.complain(f"{preferences.path().name}: {problem}")
        self.controls, self.given = controls, self._opening.named
        if self.focused is None:
            self.prompt.focus()  # a browser may not have reported its focus
        self.load()
        self.open_text(self._opening.text)
        if self._opening.score:
            self.read(self._opening.score)
        if self.early_prompt and not self.write(self.early_prompt):
            self.give_back(self.early_prompt)
        self.is_whole = True
        self.refresh_bindings()
        self.post_message(self.Whole())

    def on_resize(self, event: events.Resize) -> None:
        """Choose the arrangement for this size."""
        before = set(self.classes)
        self.panels.arrangement = self._arrange(event.size)
        if self.classes != before:
            self.update_node_styles()
            self.keep_focus()

    def _arrange(self, size: Size) -> str:
        """Set the classes for a size, without a new look; returns the arrangement of the panels."""
        width, height = size
        columns = "three" if width >= THREE else "two" if width >= TWO else "one"
        is_high = height >= HIGH and columns != "one"
        for name in ("one", "two", "three"):
            self.set_class(name == columns, f"-{name}", update=False)
        self.set_class(height < LOW, "-low", update=False)
        self.set_class(is_high, "-high", update=False)
        return f"{columns}-high" if is_high else columns

    @on(Prompt.Paged)
    def _prompt_paged(self, event: Prompt.Paged) -> None:
        self.action_page(event.by)

    @on(TokenView.Typed)
    def _typed(self, event: TokenView.Typed) -> None:
        self.prompt.focus()
        self.prompt.insert(event.letter)

    @property
    def labels(self) -> Mapping[str, str]:
        """Action → what the footer calls it now, if that depends on the selected token."""
        index = self.index
        is_inside = index is not None and index + 1 < len(self.document.path)
        return {"go_on": "continue here"} if is_inside else {}

    def show_token(self) -> None:
        """Update the footer too."""
        before = self._shown_labels
        super().show_token()
        self.view.letters_begin = not self.document.can_undo
        self._shown_labels = self.labels
        if self._shown_labels != before:
            self.refresh_bindings()

    def action_page(self, by: int) -> None:
        """Scroll the text by a page up (-1) or down (1)."""
        if by < 0:
            self.view.scroll_page_up()
        else:
            self.view.scroll_page_down()

    def action_home(self) -> None:
        """Stop the model; else close what is open; else go from a panel to the text, and from there
        to the prompt."""
        self.session.backend.cancel()  # also questions to the model
        if self.is_writing or self.end_edit(draft=True):
            return
        if self.table.display:
            self.action_waterfall()
        elif self.is_presenting:
            self.leave_presenter()
        elif not self.leave_panel():
            if self.prompt.has_focus and self.session.loaded:
                where = "; Tab goes into the text" if self.document.path else ""
                self.notify(f"There is nothing to stop or to close{where}.", markup=False)
            if self.view.has_focus and self.document.path:
                self.prompt.say_where_letters_go()
            self.prompt.focus()
            self._say_what_loads()

    def _say_what_loads(self) -> None:
        """Say that there is no model yet: nobody knows otherwise that Esc cannot stop that."""
        if self.session.loaded is None:
            waiting = self.session.waiting or "loading the model"
            said = f"{waiting[:1].upper()}{waiting[1:]}. Ctrl+O chooses another model."
            self.notify(one_line(said), markup=False)

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
        self.prompt.edited(text)
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
