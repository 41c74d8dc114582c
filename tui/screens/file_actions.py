"""Actions on whole texts: open, search, copy, export."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

from textual import on, work

from gpt import models, text_file
from gpt.errors import UserError
from gpt.sanitize import one_line
from tui.labels import shortened
from tui.measure import find
from tui.news import Change, News
from tui.preferences import Chooser
from tui.runs import READY
from tui.saved_text import Entry
from tui.screens.model_actions import ModelActions
from tui.screens.session_screen import PROBLEM_SECONDS
from tui.widgets.token_view import TokenView


class FileActions(ModelActions):
    """Each action's conditions are in the table of possible actions."""

    given = frozenset[str]()
    """Names of the settings that the command line gave: a saved text does not change them."""

    def action_new_text(self) -> None:
        """Start an empty text."""
        self.session.begin()
        self.session.figures.speed = self.session.figures.first = None
        self.show_path()
        self.draw(READY)
        self.prompt.say_nothing()
        self.prompt.focus()
        self._say_what_stays()

    def _say_what_stays(self) -> None:
        """Say in another text which words are banned or boosted: settings are of every text."""
        from tui.widgets.dial import Words

        found = [f"{len(field.items)} {field.id}" for field in self.query(Words) if field.items]
        if found:
            said = f"Sampling settings stay: {', '.join(found)}"
            self.notify(one_line(said), markup=False)

    def action_texts(self) -> None:
        """Choose a saved text."""
        from tui.screens.texts import TextPicker

        self.app.push_screen(TextPicker(self.session.place.path), self.open_text)

    def open_text(self, path: Path | None) -> None:
        """Open a saved text, at the place where its reader left it."""
        if path is None or path == self.session.place.path:
            self.show_token()  # the list may have lost its last text
            return
        try:
            entry, is_ours = self.session.open(path)
        except UserError as error:
            self.complain(str(error))
            return
        self.session.figures.speed = self.session.figures.first = None  # of another text
        if not is_ours:
            self.notify(
                "Another program has this text open. Your changes are saved as another text.",
                markup=False,
            )
        if self.controls:
            self.controls.tell(self.document.system)
            drawn = (node.sampling for node in reversed(self.document.path) if node.sampling)
            self.controls.last_seed = next((sampling.seed for sampling in drawn), None)
        setup = self.document.setup
        if setup is None:
            self.show_path()
            self._say_what_stays()
        else:
            if self.controls:
                self.controls.use(setup, self.given)
            self.show_path(setup.cursor)
        self.draw(READY)
        self._choose_model(entry)

    def _choose_model(self, entry: Entry) -> None:
        """Load the model of the text; if it is missing, the current model reads the text."""
        if entry.model == self.session.model:
            return
        try:
            if not self.session.servers.knows(entry.model):
                models.find(entry.model)
        except UserError as error:
            self.complain(f"{error}; {self.session.model} reads the text instead")
            self.follow(self.session.read_again())
        else:
            self.switch_model(entry.model)

    def read(self, text: str) -> None:
        """Let the model read a text, and show its first token."""
        self._follow_from_start(self.session.read(text))

    @work(group="write")
    async def _follow_from_start(self, run: AsyncIterator[News]) -> None:
        async for news in run:
            self.draw(news)
            if news is Change.COMPLETE:
                self.view.action_select(0)

    def action_copy(self) -> None:
        """Copy the selected tokens, or the whole text, to the terminal's clipboard."""
        nodes = [self.document.path[i] for i in self.view.selection] or self.document.path
        text = b"".join(node.step.added for node in nodes).decode("utf-8", "replace")
        self.app.copy_to_clipboard(text)
        self.notify("Copied 1 token" if len(nodes) == 1 else f"Copied {len(nodes)} tokens")

    @on(TokenView.SelectionEnded)
    def _copy_selection(self) -> None:
        """Copy what the mouse has selected, as a terminal does, if the person wants that."""
        if cast(Chooser, self.app).preferences.copy_on_select:
            self.action_copy()

    def action_read_file(self, name: str = "") -> None:
        """Ask for a text file, which the model then reads. name: what was typed before."""
        from tui.screens.texts import Question

        hint = "Enter: see the probability of each of its tokens · Esc: back"

        def named(name: str | None) -> None:
            if name:
                self._read_file(name)

        self.app.push_screen(Question("Read a text file", hint, name), named)

    @work(group="file", exclusive=True)
    async def _read_file(self, name: str) -> None:
        try:
            path = Path(name).expanduser()
            if path.exists() and not text_file.is_file(path):
                raise UserError(f"{path} is not a file")
            text = await asyncio.to_thread(text_file.read, path)
            if not text:
                raise UserError(f"{path} is empty: nothing to read")
        except (UserError, OSError, RuntimeError, ValueError) as error:  # not a valid file name
            self.action_read_file(name)
            self.complain(str(error))
            return
        # A text with characters that the model does not know replaces nothing.
        if await self.answer(self.session.backend.tokens(text)) is not None:
            self.read(text)

    def action_search(self) -> None:
        """Ask for words and go to the next match."""
        from tui.screens.texts import Question

        question = Question(
            "Search", "Enter: find; then n: next, N: previous match", self.session.searched
        )
        self.app.push_screen(question, self._search)

    def _search(self, wanted: str | None) -> None:
        if wanted:
            self.session.searched = wanted
            self.action_found(1)

    def action_found(self, by: int) -> None:
        """Go to the next (1) or previous (-1) match; after the last one comes the first."""
        if (here := self.index) is None:
            return
        wanted = self.session.searched
        starts = find([node.step for node in self.document.path], wanted)
        if not starts:
            self.notify(f'"{shortened(wanted, 60)}" is not in the text', markup=False)
            return
        later = [i for i in starts if (i > here if by > 0 else i < here)]
        found = (later or starts)[0 if by > 0 else -1]
        self.view.action_select(found)
        self._select_match(found, wanted)
        self.view.focus()
        said = f"Match {starts.index(found) + 1} of {len(starts)}; n: next, N: previous"
        self.notify(said, markup=False)

    def _select_match(self, first: int, wanted: str) -> None:
        """Select all tokens of a match, so that it can be replaced or copied."""
        text = ""
        for index, node in enumerate(self.document.path[first:], first):
            text += node.step.text
            if wanted.lower() in text.lower():
                if index > first:
                    self.view.far_end = index
                return

    def action_export(self) -> None:
        """Choose format, branches and file, and export."""
        from tui.screens.export import ExportScreen

        self.app.push_screen(ExportScreen(self.document, self.session.model), self._say_written)

    def _say_written(self, path: Path | None) -> None:
        if path:
            said = f"Wrote {one_line(str(path))}"
            self.notify(said, markup=False, timeout=PROBLEM_SECONDS)  # a path takes time to read
