"""The panels follow the selected token, the settings and the prompt, and ask the model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from textual import on, work
from textual.content import Content
from textual.css.query import NoMatches
from textual.timer import Timer
from textual.widgets import Checkbox

from gpt.sanitize import one_line
from tui import store
from tui.backend import BackendError, Loaded
from tui.changes import of_network
from tui.commands import Program
from tui.document import Node
from tui.heat import attention_scale
from tui.news import Change, News
from tui.possible import BUSY
from tui.runs import CONTEXT_FULL
from tui.screens.live_settings import LiveSettings
from tui.special_tokens import segments
from tui.turns import system_prompt_at
from tui.widgets.panels import Panels
from tui.widgets.prompt import Prompt
from tui.widgets.token_view import TokenView
from tui.widgets.welcome import Welcome, openings_of

if TYPE_CHECKING:
    from tui.widgets.branches import Branches
    from tui.widgets.layers import LayersPanel

PLACEHOLDERS = {
    (False, False): "Type an opening line and press Enter…",
    (False, True): "Type what comes next, or press Enter to continue…",
    (True, False): "Type a message and press Enter…",
    (True, True): "Type a message, or press Enter to continue the answer…",
}
"""Whether this is a chat, and whether there is a text → what an empty prompt says."""
PAUSE = 0.08
"""Seconds that the cursor must rest before the layers are asked."""


class LivePanels(LiveSettings):
    """Asks only for what is visible."""

    _resting: Timer | None = None

    @on(TokenView.Selected)
    def _selected(self) -> None:
        self.show_token()

    def show_token(self) -> None:
        """Update everything that depends on the selected token."""
        if self.step is not self.inspector.step:
            self.inspector.now = None  # it belongs to another token
        super().show_token()
        index, document = self.index, self.document
        is_system = bool(document.system) and index is not None
        self.inspector.is_system = is_system and system_prompt_at(document.path, index or 0)
        self.welcome_if_empty()
        self.explain()
        self.examine()
        self.show_branches()

    @on(Panels.Switched)
    def _switched(self) -> None:
        """Fill the panels that have become visible."""
        if not self.colours_attention:
            self.view.use_own_scale()
        self.examine()
        self.show_branches()
        self.refresh_bindings()

    def show_text(self) -> None:
        """Draw the path; it decides how much room there is for the prompt."""
        super().show_text()
        if self.prompt.has_text:
            self._cut()

    def draw(self, news: News) -> None:
        """Draw one event; the prompt's tokens may have waited for it."""
        super().draw(news)
        if news in (Change.LOADED, Change.ENDED):
            self._cut()
            cast(Program, self.app).take_back(BUSY)

    def on_controls_turned(self) -> None:
        """A dial was turned: move the bars."""
        self.welcome_if_empty()
        self.explain()

    # Layers and attention.

    @property
    def layers_panel(self) -> LayersPanel | None:
        """The panel of the layers; None until it is mounted."""
        try:
            return cast("LayersPanel", self.query_one("#layers"))
        except NoMatches:
            return None

    @property
    def colours_attention(self) -> bool:
        """Whether the text is coloured by what the panel of the layers shows."""
        panel = self.layers_panel
        return panel is not None and (
            self.panels.chosen == "layers" or (panel.display and panel.has_focus_within)
        )

    def examine(self) -> None:
        """Ask what each layer sees at the selected token, once the cursor rests."""
        panel = self.layers_panel
        if panel is None or not panel.display or self.is_writing:
            return
        if self._resting:
            self._resting.stop()
        if refused := self.refusal("layers", ()):
            panel.wait(refused.reason)
            return
        if not panel.has_answer:
            panel.wait("Asking the model…")
        self._resting = self.set_timer(PAUSE, self._examine)

    def _examine(self) -> None:
        if self.index and not self.is_writing:
            self._ask_layers()

    @work(group="layers", exclusive=True)
    async def _ask_layers(self) -> None:
        nodes = self._up_to_selected()
        if len(nodes) < 2:  # another text has come
            return
        ids = [node.step.token_id for node in nodes]
        changes = nodes[-1].changes
        found = await self.answer(self.session.backend.layers(ids[:-1], ids[-1], changes))
        panel = self.layers_panel
        if found is not None and panel is not None and nodes == self._up_to_selected():
            panel.show(nodes, found, of_network(changes, self.document.changes))

    def _up_to_selected(self) -> list[Node]:
        index = self.index
        return [] if index is None else self.document.path[: index + 1]

    def on_layers_panel_looking(self, event: LayersPanel.Looking) -> None:
        """Colour the text by the attention that the panel shows."""
        if self.colours_attention:
            scale = attention_scale(event.title, self._up_to_selected(), event.weights)
            self.view.set_scale(scale)

    # Branches.

    def show_branches(self) -> None:
        """Update the panel of branches, if it is visible."""
        for panel in self.query("#tree"):
            if panel.display and (self.session.is_branching or not self.is_writing):
                index = self.index
                here = None if index is None else self.document.path[index]
                growing = frozenset(self.session.growing.values())
                cast("Branches", panel).show(self.document, here, growing)

    # The prompt, and the welcome.

    def welcome_if_empty(self) -> None:
        """Show the welcome in an empty text, until somebody types."""
        welcome = self.query_one(Welcome)
        welcome.display = not (self.document.path or self.prompt.has_text or self.is_writing)
        if self.controls is not None:
            chat = self.controls.chat
            welcome.openings = openings_of(self.session.model, chat=chat)
            welcome.has_texts = welcome.display and store.has_texts()
            said = PLACEHOLDERS[chat, bool(self.document.path)]
            several = self.controls.numbers().get("branches", 1)
            self.prompt.placeholder = f"{said} ({several:g} branches)" if several > 1 else said

    @on(Checkbox.Changed, "#chat")
    def _chat_changed(self) -> None:
        """In a chat, the prompt is a message."""
        self.welcome_if_empty()

    @on(Prompt.Changed)
    def _cut(self) -> None:
        """Show the tokens of the prompt, if the model is free."""
        self.offer()
        self.welcome_if_empty()
        if not self.prompt.has_text:
            self.prompt.show_tokens([])
        elif not self.is_writing and self.session.loaded:
            self._ask_tokens(self.prompt.text, self.session.loaded)

    @work(group="tokens", exclusive=True)
    async def _ask_tokens(self, text: str, model: Loaded) -> None:
        try:
            parts = await self._tokens_of(text, model)
        except BackendError as error:
            self.prompt.border_title = Content(one_line(str(error)))
        else:
            slides = not model.block_size or self.said == CONTEXT_FULL.message
            slides = slides or (self.controls is not None and self.controls.slide)
            room = math.inf if slides else model.block_size - len(self.document.path)
            self.prompt.show_tokens(parts, joins_spaces=model.has_words, room=room)

    async def _tokens_of(self, text: str, model: Loaded) -> list[bytes]:
        """The tokens of a prompt; a special one by its name."""
        names = {i: name.encode() for name, i in model.special_tokens.items()}
        found = list[bytes]()
        for part in segments(text, model.special_tokens):
            if isinstance(part, int):
                found.append(names[part])
            else:
                found += (await self.session.backend.tokens(part)).parts
        return found
