"""Actions on the tree of a text: continue, replace, switch branches, delete, bookmark."""

from __future__ import annotations

from textual import on

from tui.document import Node
from tui.node import in_common
from tui.screens.turn_actions import TurnActions
from tui.special_tokens import field_text
from tui.widgets.prompt import Prompt
from tui.widgets.replacement import Replacement
from tui.widgets.welcome import Welcome


class TreeActions(TurnActions):
    """Each action's conditions are in the table of possible actions."""

    @on(Prompt.Sent)
    def _send(self, event: Prompt.Sent) -> None:
        """Continue after the path and the prompt; in an empty text, start with an opening line."""
        self._continue(event.text)

    def action_write_on(self) -> None:
        """As Enter in the prompt."""
        text, self.prompt.text = self.prompt.text, ""
        self._continue(text)

    def _continue(self, text: str) -> None:
        if (at := self.edited_at()) is not None:
            if not text or self.send_message(text, at):
                self.end_edit(draft=True)
            else:
                self.give_back(text)
            return
        opening = "" if self.document.path else self.query_one(Welcome).opening
        if not self.write(text or opening):
            self.give_back(text)

    def action_go_on(self) -> None:
        """Continue after the selected token; the old continuation stays as a branch."""
        index = self.index
        if self.write(self.prompt.text, None if index is None else index + 1):
            self.end_edit(draft=False)
            self.prompt.text = ""

    def action_replace(self) -> None:
        """Type something else in the place of the selected tokens, or of the message around them;
        the model continues."""
        self._ask_replacement(keeps_rest=False)

    def action_change(self) -> None:
        """The same, but what comes after them stays, and the model only reads it."""
        self._ask_replacement(keeps_rest=True)

    def _ask_replacement(self, *, keeps_rest: bool, text: str | None = None) -> None:
        """text: what the field holds, instead of the tokens."""
        index = self.index
        if index is None or self.edited_message(index):
            return
        tokens = self._replaced
        if text is None:
            text = "".join(self.document.path[i].step.text for i in tokens)
        cell = self.view.cell_of(tokens.start)
        self.query_one(Replacement).ask(cell, self.view.outer_size, text, keeps_rest=keeps_rest)

    @property
    def _replaced(self) -> range:
        """Indices of the tokens that are replaced."""
        index = self.index or 0
        return self.view.selection or range(index, index + 1)

    @on(Replacement.Typed)
    def _replace(self, event: Replacement.Typed) -> None:
        """Put the typed text in the place of the tokens, and continue, or read what follows."""
        self.view.focus()
        if not event.text:
            return
        tokens, text = self._replaced, event.text
        if event.keeps_rest:
            text += field_text(node.step for node in self.document.path[tokens.stop :])
        length = 0 if event.keeps_rest else None
        if not self.write(text, tokens.start, length=length, as_is=True):
            self._ask_replacement(keeps_rest=event.keeps_rest, text=event.text)

    def action_draw_again(self) -> None:
        """Sample the selected token again, and continue."""
        self.write(at=self.index)

    def action_take(self, number: int) -> None:
        """Replace the selected token by candidate 1, 2, … of those on the screen, and continue.

        If it is that token already, only what follows is written anew.
        """
        if self.inspector.display and number not in self.inspector.numbers:
            said = f"Candidate {number} is not on the screen: a taller window shows more."
            self.notify(said, markup=False)
            return
        if (index := self.index) is not None:
            step = self.document.path[index].step
            token_id = step.candidates[number - 1].token_id
            if token_id == step.token_id:
                self.write(at=index + 1)
            else:
                self.write(at=index, new_ids=[token_id])

    def action_branch(self, by: int) -> None:
        """Show the next (1) or previous (-1) branch."""
        fork = None if self.index is None else self.document.fork(self.index)
        if fork is not None:
            self.document.next_branch(fork, by)
            self.show_path(fork)

    def action_delete(self) -> None:
        """Delete the selected token and everything after it; of several selected ones only them."""
        if (index := self.index) is None:
            return
        path, tokens = self.document.path, self._replaced
        if len(tokens) > 1 and tokens.stop < len(path):
            rest = field_text(node.step for node in path[tokens.stop :])
            if self.write(rest, tokens.start, length=0, as_is=True):
                self.notify(f"{len(tokens)} tokens taken out; z goes back.", markup=False)
            return
        n = len(path) - tokens.start
        self.document.delete(tokens.start)
        self.session.left = None
        self.show_path(min(index, len(self.document.path) - 1))
        said = f"Deleted {n} tokens, to the end" if n > 1 else "Deleted"
        self.notify(f"{said}; z restores {'them' if n > 1 else 'it'}.", markup=False)

    def action_undo(self) -> None:
        """Show the text before the latest step, or restore the latest deletion."""
        before, index = list(self.document.path), self.index
        if self.session.can_go_back and (left := self.session.left):
            self.document.show(left)
            # An older deletion comes next; without one, the new text again.
            has_older = self.document.can_undo or not before
            self.session.left = None if has_older else before[-1]
            self.show_path(in_common(before, self.document.path))
            after = "restores what was deleted" if has_older else "shows the new one"
            self.notify(f"The text before; z again {after}.", markup=False)
            self.session.keep()
            return
        self.document.undo()
        if self.document.path == before:
            self.show_path(index)
            self.notify("Restored in Branches; the text on the screen is as it was", markup=False)
            return
        self.show_path(in_common(before, self.document.path))
        self.notify("Restored", markup=False)

    def action_mark(self) -> None:
        """Set or remove a bookmark at the selected token."""
        if (index := self.index) is not None:
            is_set = self.document.toggle_mark(index)
            self.view.redraw(index)
            self.notify(f"Bookmark {'set' if is_set else 'removed'}", markup=False)

    def action_next_mark(self) -> None:
        """Go to the next bookmark of any branch."""
        if (index := self.index) is not None:
            self.show_node(self.document.next_mark(index))

    def show_node(self, node: Node | None) -> None:
        """Select a token of any branch."""
        if node:
            self.show_path(self.document.show(node))
            self.view.focus()
