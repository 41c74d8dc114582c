"""What becomes of a text: it saves itself, is found again, and leaves as a file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType

from gpt.errors import UserError
from gpt.sanitize import one_line
from tui import store
from tui.measure import find
from tui.screens.parts import Part
from tui.store import Place
from tui.widgets.token_view import TokenView


class Keeping(Part):
    """The part of the main screen that knows files."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f3", "texts", "texts", id="texts"),
        Binding("f4", "export", "export", show=False, id="export"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.place = Place()
        self._saving = asyncio.Lock()
        self._wanted = ""

    @work(group="save")
    async def keep(self) -> None:
        """Save the text, in a thread, for a long one takes longer than a frame."""
        async with self._saving:
            snapshot = self.model, list(self.document.nodes()), list(self.document.path)
            try:
                await asyncio.to_thread(self.place.save, *snapshot)
            except UserError as error:
                self.complain(str(error))

    def keep_at_last(self) -> None:
        """Save before the program ends; there is nobody left to tell of an error."""
        try:
            self.place.save(self.model, list(self.document.nodes()), list(self.document.path))
        except UserError as error:
            self.app.exit(return_code=1, message=f"error: {one_line(str(error))}")
        self.place.release()

    def action_texts(self) -> None:
        """Find an earlier text."""
        from tui.screens.texts import TextPicker

        if not self.is_free():
            return
        self.app.push_screen(TextPicker(), self.open_text)

    def open_text(self, path: Path | None) -> None:
        """Show a text that was saved, where its reader left it."""
        if path is None or path == self.place.path:
            return
        try:
            document, entry = store.load(path)
        except UserError as error:
            self.complain(str(error))
            return
        place = Place(path)
        if not place.claim():
            self.notify(
                "another program has this text open: what you change here becomes another text",
                markup=False,
            )
        self.begin_text(document, place)
        self.opened(entry)

    def action_copy(self) -> None:
        """The selected tokens, or the whole text, into the terminal's clipboard."""
        chosen = self.query_one(TokenView).selection
        nodes = [self.document.path[i] for i in chosen] or self.document.path
        text = b"".join(node.step.bytes for node in nodes).decode("utf-8", "replace")
        self.app.copy_to_clipboard(text)
        self.notify(f"copied {len(nodes)} tokens", markup=False)

    def action_search(self) -> None:
        """Ask for words and go to the next place that has them."""
        from tui.screens.texts import Question

        if self.document.path:
            question = Question("search this text for", "n and N go on", self._wanted)
            self.app.push_screen(question, self._search)

    def _search(self, wanted: str | None) -> None:
        if wanted:
            self._wanted = wanted
            self.action_found(1)

    def action_found(self, by: int) -> None:
        """Go to the next, or last, place that has what was searched for; round the end."""
        view = self.query_one(TokenView)
        if not self._wanted or view.index is None:
            return
        steps = [node.step for node in self.document.path]
        starts = find(steps, self._wanted)
        if not starts:
            self.notify(f"{one_line(self._wanted)} is not in the text", markup=False)
            return
        here = view.index
        later = [i for i in starts if (i > here if by > 0 else i < here)]
        target = (later or starts)[0 if by > 0 else -1]
        view.action_select(target)
        view.focus()

    def action_export(self) -> None:
        """Write the text on the screen to a file."""
        from tui.screens.texts import Question, free_name

        if self.document.path:
            hint = "the name ends with .txt .md .json .html or .svg"
            hint += ", in the directory of texts" if self.app.is_web else ""
            question = Question("write this text to", hint, free_name())
            self.app.push_screen(question, self._export)

    def _export(self, name: str | None) -> None:
        from tui import export, served

        if not name:
            return
        try:
            path = served.export_path(name) if self.app.is_web else Path(name).expanduser()
            export.write(path, self.document.path, self.model)
        except UserError as error:
            self.complain(str(error))
        except (OSError, RuntimeError, ValueError) as error:  # a name that no file can have
            self.complain(f"cannot write {name}: {getattr(error, 'strerror', None) or error}")
        else:
            self.notify(f"wrote {one_line(str(path.absolute()))}", markup=False)
