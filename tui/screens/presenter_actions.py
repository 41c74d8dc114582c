"""Presenter mode: the text, large bars, one token a key press."""

from __future__ import annotations

from collections.abc import AsyncIterator

from textual import events, work

from gpt.errors import UserError
from gpt.sanitize import one_line
from tui.keys import written
from tui.news import News, State
from tui.screens.key_actions import KeyActions
from tui.screens.live_panels import LivePanels
from tui.screens.tree_actions import TreeActions
from tui.widgets.big_bars import BigBars
from tui.widgets.pressed import Pressed

_SHOWS = "screen.all_keys"
"""The action of Space in the text."""
_PANELS = {"screen.layers"}
"""Actions of the footer that show a panel."""


class PresenterActions(TreeActions, KeyActions, LivePanels):
    """The first key press draws a token and hides it, the second one shows it."""

    is_hiding = False
    """The newest token is not shown yet."""

    @property
    def is_presenting(self) -> bool:
        """Whether the screen is in presenter mode."""
        return self.has_class("-presenting")

    @property
    def left_out(self) -> frozenset[str]:
        """Actions that the footer does not offer: Space is for the next token, and no panel is
        shown."""
        return super().left_out | ({_SHOWS, *_PANELS} if self.is_presenting else set())

    def action_presenter(self) -> None:
        """Enter or leave presenter mode."""
        if self.is_presenting:
            self.leave_presenter()
            return
        self.add_class("-presenting")
        if not self.query(BigBars):
            self.query_one("#body").mount(BigBars(id="bars"))
            self.mount(Pressed(id="pressed"), before="#foot")
        for corner in self.query(Pressed):
            corner.clear()
        self.view.focus()
        self.refresh_bindings()
        self.call_after_refresh(self._show_bars)

    def leave_presenter(self) -> None:
        """Show the panels again."""
        self.is_hiding = False
        self.remove_class("-presenting")
        self.update_node_styles()  # the prompt may get the focus at once
        self.refresh_bindings()
        self.show_path(self.index)

    def show_token(self) -> None:
        """Update the large bars too; without a text, leave presenter mode."""
        super().show_token()
        if self.is_presenting and not (self.document.path or self.is_writing):
            self.leave_presenter()
            self.prompt.focus()
        elif self.is_presenting and self.query(BigBars):
            self._show_bars()

    def _show_bars(self) -> None:
        self.query_one(BigBars).step = None if self.is_hiding else self.step

    async def action_all_keys(self) -> None:
        """Show what every key does now; in presenter mode, go on by half a step."""
        if self.is_presenting:
            self.present_next()
        else:
            await super().action_all_keys()

    def on_key(self, event: events.Key) -> None:
        """Show the key to the room."""
        for corner in self.query(Pressed):
            corner.add(written(event.key))

    def present_next(self) -> None:
        """Draw a token and hide it; if one is hidden, show it. Before the end, go one token on."""
        if self.is_hiding:
            self.is_hiding = False
            self.show_path()
            return
        index = self.index
        if index is not None and index + 1 < len(self.document.path):
            self.view.action_select(index + 1)
        elif refused := self.refusal("write", ()):
            self.complain(refused.reason)
        elif self.controls:
            try:
                settings = self.controls.settings(1)
            except UserError as error:
                self.complain(str(error))
                return
            self.is_hiding = True
            self.view.show(list(self.document.path))  # this list does not grow
            self.query_one(BigBars).step = None
            self._draw_one(self.session.run(settings))

    @work(group="write")
    async def _draw_one(self, run: AsyncIterator[News]) -> None:
        """Draw the run; if it gave no token, say what it says at its end."""
        before, said = len(self.document.path), ""
        async for news in run:
            self.draw(news)
            if isinstance(news, State):
                said = news.message
        if len(self.document.path) == before:
            self.is_hiding = False
            self._show_bars()
            self.notify(one_line(said), markup=False)

    def action_take(self, number: int) -> None:
        """Take a candidate; in presenter mode without a continuation."""
        index = self.index
        if self.is_presenting and self.is_hiding:
            self.notify("Space shows the token first.", markup=False)
        elif self.is_presenting and index is not None:
            step = self.document.path[index].step
            candidate = step.candidates[number - 1]
            if candidate.token_id == step.token_id:
                self.notify("This candidate is the token in the text.", markup=False)
            else:
                self.write(at=index, new_ids=[candidate.token_id], length=0)
        else:
            super().action_take(number)
