"""Actions on the tree of a text: continue, replace, switch branches, delete, bookmark."""

from __future__ import annotations

from textual import on

from tui.document import Node
from tui.possible import NO_BEGINNING
from tui.screens.session_screen import SessionScreen
from tui.widgets.prompt import Prompt


class TreeActions(SessionScreen):
    """Each action's conditions are in the table of possible actions."""

    @on(Prompt.Sent)
    def _send(self, event: Prompt.Sent) -> None:
        """Continue after the path and the prompt."""
        if not event.text and not self.document.path:
            self.complain(NO_BEGINNING.reason)
        elif not self.write(event.text):
            self.give_back(event.text)

    def action_go_on(self) -> None:
        """Continue after the selected token; the old continuation stays as a branch."""
        index = self.view.index
        if self.write(self.prompt.text, None if index is None else index + 1):
            self.prompt.text = ""

    def action_replace(self) -> None:
        """Replace the selected token by the prompt, or by a new sample, and continue."""
        if self.write(self.prompt.text, self.view.index):
            self.prompt.text = ""

    def action_take(self, number: int) -> None:
        """Replace the selected token by candidate 1, 2, … and continue."""
        if (index := self.view.index) is not None:
            candidate = self.document.path[index].step.candidates[number - 1]
            self.write(at=index, new_ids=[candidate.token_id])

    def action_branch(self, by: int) -> None:
        """Show the next (1) or previous (-1) branch."""
        fork = None if self.view.index is None else self.document.fork(self.view.index)
        if fork is not None:
            self.document.next_branch(fork, by)
            self.show_path(fork)

    def action_delete(self) -> None:
        """Delete the selected token and everything after it."""
        if (index := self.view.index) is not None:
            self.document.delete(index)
            self.show_path(min(index, len(self.document.path) - 1))
            self.notify("Deleted; z restores it.", markup=False)

    def action_undo(self) -> None:
        """Restore the latest deletion."""
        self.document.undo()
        self.show_path()

    def action_mark(self) -> None:
        """Set or remove a bookmark at the selected token."""
        if (index := self.view.index) is not None:
            is_set = self.document.toggle_mark(index)
            self.view.redraw(index)
            self.notify(f"Bookmark {'set' if is_set else 'removed'}", markup=False)

    def action_next_mark(self) -> None:
        """Go to the next bookmark of any branch."""
        if (index := self.view.index) is not None:
            self._show_node(self.document.next_mark(index))

    def action_tree(self) -> None:
        """Show all branches."""
        from tui.screens.tree import TreeScreen

        if (index := self.view.index) is not None:
            tree = TreeScreen(self.document, self.document.path[index])
            self.app.push_screen(tree, self._show_node)

    def _show_node(self, node: Node | None) -> None:
        """Select a token of any branch."""
        if node:
            self.show_path(self.document.show(node))
            self.view.focus()
