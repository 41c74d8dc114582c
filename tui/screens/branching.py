"""What a reader does with the tree of a text: go on elsewhere, choose, delete, find again."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from tui.document import Node
from tui.screens.parts import Part
from tui.widgets.prompt import Prompt
from tui.widgets.token_view import TokenView


class Branching(Part):
    """The half of the main screen that knows the tree and no model."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+g", "go_on", "go on from here", id="go_on"),
        Binding("ctrl+b", "branch(1)", "other branch", id="next_branch"),
        Binding("ctrl+t", "tree", "tree", show=False, id="tree"),
    ]

    @property
    def _view(self) -> TokenView:
        return self.query_one(TokenView)

    def _show_path(self, position: int | None) -> None:
        """The path has changed: draw it, with this token selected."""
        self._view.show(self.document.path)
        if position is not None and self.document.path:
            self._view.action_select(position)
        self.show_token()

    def action_go_on(self) -> None:
        """Draw behind the selected token; what stood there stays as another branch."""
        if not self.is_free():
            return
        if self._view.index is not None:
            self.document.cut(self._view.index + 1)
            self._view.show(self.document.path)
        prompt = self.query_one(Prompt)
        text, prompt.text = prompt.text, ""
        self.send(text)

    def action_instead(self) -> None:
        """Draw, or write, something else in the place of the selected token."""
        if (index := self.chosen()) is None:
            return
        prompt = self.query_one(Prompt)
        if not index and not prompt.text:
            self.complain("Nothing comes before the first token; type its replacement first.")
            return
        self.document.cut(index)
        self._view.show(self.document.path)
        text, prompt.text = prompt.text, ""
        self.send(text)

    def action_take(self, number: int) -> None:
        """Put a candidate, counted from 1, in the place of the selected token and go on."""
        if (index := self.chosen()) is None:
            return
        candidates = self.document.path[index].step.candidates
        if number > len(candidates):
            self.complain(f"this token has {len(candidates)} candidates")
            return
        self.document.cut(index)
        self._view.show(self.document.path)
        self.send("", 1, [*self.document.ids, candidates[number - 1].token_id])

    def action_branch(self, by: int) -> None:
        """Show what else was written behind the same beginning."""
        if (index := self.chosen()) is None:
            return
        fork = next((i for i in range(index, -1, -1) if self.document.branches(i) > 1), None)
        if fork is None:
            self.notify("there is no other branch at this token or before it", markup=False)
            return
        self.document.next_branch(fork, by)
        self._show_path(fork)

    def action_delete(self) -> None:
        """Take the selected token and all behind it out of the tree."""
        if (index := self.chosen()) is None:
            return
        self.document.delete(index)
        self._show_path(min(index, len(self.document.path) - 1))
        self.notify("deleted; z brings it back", markup=False)

    def action_undo(self) -> None:
        """Bring back what was deleted last."""
        if not self.is_free():
            return
        if not self.document.undo():
            self.notify("nothing was deleted", markup=False)
            return
        self._show_path(None)

    def action_mark(self) -> None:
        """Set or take away a bookmark at the selected token."""
        if (index := self.chosen()) is not None:
            node = self.document.path[index]
            node.is_marked = not node.is_marked
            self._view.redraw(index)

    def action_next_mark(self) -> None:
        """Go to the next bookmark of any branch."""
        if (index := self.chosen()) is None:
            return
        marks = [node for node in self.document.nodes() if node.is_marked]
        if not marks:
            self.notify("there is no bookmark; m sets one", markup=False)
            return
        here = self.document.path[index]
        order = list(self.document.nodes())
        behind = order.index(here)
        later = next((node for node in marks if order.index(node) > behind), marks[0])
        self.show_node(later)

    def show_node(self, node: Node) -> None:
        """Make a token of any branch the selected one."""
        self._show_path(self.document.show(node))
        self._view.focus()

    def action_tree(self) -> None:
        """All branches at once."""
        from tui.screens.tree import TreeScreen

        if (index := self.chosen()) is None:
            return
        self.app.push_screen(
            TreeScreen(self.document, self.document.path[index]),
            lambda node: self.show_node(node) if node else None,
        )
