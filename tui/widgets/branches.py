"""The panel of branches: rows of a tree, a preview, and a field for a name or a note."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import ClassVar, Self

from textual import getters, on
from textual.actions import SkipAction
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from gpt.sanitize import one_line
from tui.changes import described
from tui.document import Document, Node
from tui.labels import fit, fit_hints
from tui.node import LONGEST_NAME, LONGEST_NOTE
from tui.outline import Row, rows
from tui.widgets.branch_rows import BranchRows
from tui.widgets.field import Field

_ASKS = {"name": ("Name of this branch", LONGEST_NAME), "note": ("Note on it", LONGEST_NOTE)}
"""Field of a remark → what the panel asks for, and the most characters."""
_HINTS = {
    "star": "s star",
    "ask('name')": "n name",
    "ask('note')": "o note",
    "compare": "d compare",
    "delete": "Del delete",
}
"""Action → its hint in the border, where a click acts like the key."""
_GROWING = {"stop": "x stop this branch"}
"""The same for a branch that is being written: the others need a text that does not change."""
_LOW = 12
"""Rows of a panel below which the preview is short."""


class Branches(Vertical):
    """Every branch of a text; the person goes to one, keeps it or deletes it.

    The panel changes what is said about a branch. Everything else is the screen's: the panel tells
    it what the person wants.
    """

    BORDER_TITLE = "Branches"
    DEFAULT_CSS = """
    Branches {
        & > #preview { height: auto; max-height: 4; color: $text-muted; text-overflow: ellipsis; }
        &.-low > #preview { max-height: 2; }
        & > #remark { height: 1; width: 1fr; display: none; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "star", "star", id="branches.star"),
        Binding("n", "ask('name')", "name", id="branches.name"),
        Binding("o", "ask('note')", "note", id="branches.note"),
        Binding("d", "compare", "compare", id="branches.compare"),
        Binding("x", "stop", "stop this branch", show=False, id="branches.stop"),
        Binding("delete", "delete", "delete", id="branches.delete"),
        Binding("z", "screen.undo", "undo", id="branches.undo"),
        Binding("escape", "leave", "back", show=False, id="branches.back"),
    ]

    outline = getters.query_one(BranchRows)
    preview = getters.query_one("#preview", Static)
    field = getters.query_one(Field)

    class Wish(Message):
        """The person wants something to be done with a branch."""

        def __init__(self, node: Node) -> None:
            """node: the first token of the highlighted row."""
            super().__init__()
            self.node = node

    class Chosen(Wish):
        """Show it."""

    class Deleted(Wish):
        """Delete it from this token on."""

    class Compared(Wish):
        """Show it next to the branch that is on the screen."""

    class Stopped(Wish):
        """Stop writing it; the other branches go on."""

    class Changed(Message):
        """A star, a name or a note has changed: the text must be saved."""

    def __init__(self, **kwargs: str) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self._document = Document()
        self._version = -1
        self._growing: Collection[Node] = ()
        self._asked: tuple[str, Node] | None = None
        """Which part of the remark the field is about, and of which branch."""

    def compose(self) -> ComposeResult:
        """The rows, the preview, and the field, which is hidden."""
        yield BranchRows()
        yield Static(id="preview", markup=False)
        yield Field(id="remark", compact=True, select_on_focus=False)

    def on_mount(self) -> None:
        """Say what can be done."""
        self._say_keys()

    def on_resize(self) -> None:
        """Leave most of a low panel to the rows."""
        self.set_class(self.size.height < _LOW, "-low")
        self._say_keys()
        self._preview()

    def focus(self, scroll_visible: bool = True) -> Self:
        """Move into the rows."""
        self.outline.focus(scroll_visible)
        return self

    def show(self, document: Document, here: Node | None, growing: Collection[Node] = ()) -> None:
        """Show the branches of a document, and highlight the one with this token of the path.

        growing: the last tokens of branches that are being written. If nothing has changed since,
        only the highlight moves.
        """
        was_growing, self._growing = self._growing, growing
        is_other = document is not self._document or document.version != self._version
        if is_other or growing != was_growing:
            if document is not self._document:
                self._close()
            self._document, self._version = document, document.version
            row = self.outline.row if self.outline.has_focus else None
            self.outline.show(rows(document), row.nodes[0] if row else here, growing)
            if growing or was_growing:
                self._say_keys()
        elif not self.outline.has_focus:
            self.outline.point_at(here)

    def _redraw(self) -> None:
        self._version = self._document.version
        row = self.outline.row
        self.outline.show(rows(self._document), row.nodes[0] if row else None, self._growing)

    # The preview.

    @on(BranchRows.Moved)
    def _moved(self, event: BranchRows.Moved) -> None:
        event.stop()
        if self._asked and (row := self.outline.row) and row.nodes[-1] is not self._asked[1]:
            self._answer()
        if self._growing:
            self._say_keys()
        self._preview()

    def _preview(self) -> None:
        row = self.outline.row
        self.preview.update(preview(row, 1 if self.has_class("-low") else 2, self.size.width))

    # What the person wants.

    @on(BranchRows.Taken)
    def _taken(self, event: BranchRows.Taken) -> None:
        event.stop()
        if row := self.outline.row:
            self.post_message(self.Chosen(row.nodes[0]))

    def action_compare(self) -> None:
        """Ask for the highlighted branch next to the one on the screen."""
        if row := self._some_row():
            self.post_message(self.Compared(row.nodes[0]))

    def action_delete(self) -> None:
        """Ask for the highlighted row to be deleted, with all that follows it."""
        if row := self._some_row():
            self.post_message(self.Deleted(row.nodes[0]))

    def action_stop(self) -> None:
        """Ask for the highlighted branch to be written no further."""
        if row := self._some_row():
            self.post_message(self.Stopped(row.nodes[-1]))

    def action_star(self) -> None:
        """Give the highlighted branch a star, or take it away."""
        if row := self._end():
            end = row.nodes[-1]
            self._keep(end, is_starred=not self._document.remark_of(end).is_starred)

    def action_ask(self, what: str) -> None:
        """Open the field for the name or the note of the highlighted branch."""
        if self._asked:
            self._answer()
        if row := self._end():
            self._asked = what, row.nodes[-1]
            wanted, longest = _ASKS[what]
            self.field.max_length = longest
            self.field.value = getattr(row.remark, what)
            self.field.cursor_position = len(self.field.value)
            self.field.display = True
            self.field.focus()
            self.border_subtitle = Content(f"{wanted} · Enter saves · Esc cancels")

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()  # no sampling setting has changed

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._answer()

    def action_leave(self) -> None:
        """Close the field without saving; without a field, Esc is the screen's."""
        if not self._asked:
            raise SkipAction
        self._close()

    def _answer(self) -> None:
        """Save what was typed."""
        if self._asked:
            (what, end), value = self._asked, self.field.value.strip()
            self._close()
            self._keep(end, **{what: value})

    def _close(self) -> None:
        self._asked = None
        if self.field.has_focus:
            self.outline.focus()
        self.field.display = False
        self._say_keys()

    def _keep(self, end: Node, **changes: str | bool) -> None:
        document = self._document
        try:
            document.set_remark(end, replace(document.remark_of(end), **changes))  # type: ignore[arg-type]
        except ValueError:
            self.notify("This branch was deleted meanwhile.", markup=False)
            return
        self._redraw()
        self.post_message(self.Changed())

    # Why not.

    def _some_row(self) -> Row | None:
        if not self.outline.row:
            self.notify("There is no branch yet.", markup=False)
        return self.outline.row

    def _end(self) -> Row | None:
        """The highlighted row if a branch ends there; else None after a message."""
        row = self._some_row()
        if row and not row.ends:
            said = "Several branches continue from here; choose one that ends."
            self.notify(said, markup=False)
            return None
        return row

    def _say_keys(self) -> None:
        if self._asked:
            return
        row = self.outline.row
        shown = _GROWING if row and row.nodes[-1] in self._growing else _HINTS
        room = fit_hints(" · ".join(shown.values()), self.size.width - 6).count(" · ") + 1
        hints = [Content(said).stylize(f"@click={action}") for action, said in shown.items()]
        self.border_subtitle = Content(" · ").join(hints[:room])


def preview(row: Row | None, lines: int, width: int) -> Content:
    """What is said about a row, and more of its text, each in so many lines of this width."""
    if row is None:
        return Content("No branches yet. Each continuation of the same beginning becomes one.")
    facts = "1 token" if len(row.nodes) == 1 else f"{len(row.nodes)} tokens"
    if row.bits is not None:
        facts += f", {row.bits:.2f} bits each on average"
    for changes, n in row.inside.items():
        facts += f"; {n} with {described(changes)}"
    if not row.ends:
        facts += f"; {len(row.nodes[-1].children)} branches continue it"
    note = one_line(row.remark.note)
    said = f"{note} · {facts}" if note else facts
    room = max(2, lines * width)
    text = fit(row.word + row.text, room).rstrip()
    return Content.assemble((fit(said, room).rstrip(), "italic"), "\n", (text, "$text"))
