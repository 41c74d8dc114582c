"""What the panel of branches wishes: go to a branch, delete it, compare it, save what was said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tui.changes import network, said, stretch
from tui.document import Node
from tui.node import in_common, places_of
from tui.sampling_words import differences, spelling_of
from tui.screens.session_screen import SessionScreen

if TYPE_CHECKING:  # the panel comes after the first frame
    from tui.widgets.branches import Branches


class BranchActions(SessionScreen):
    """The text may change only while the model does not write."""

    def _is_refused(self) -> bool:
        """Whether the model is still writing, after a message."""
        refused = self.refusal("write", ())
        if refused:
            self.complain(refused.reason)
        return refused is not None

    def on_branches_chosen(self, event: Branches.Chosen) -> None:
        """Show the branch, and select the first token of it."""
        if not self._is_refused():
            self.show_path(self.document.show(event.node))
            self.view.focus()

    def on_branches_stopped(self, event: Branches.Stopped) -> None:
        """Write a branch no further, and go on with the others."""
        if not self.session.stop(event.node):
            self.notify("Nothing is being written at the end of this row.", markup=False)

    def on_branches_deleted(self, event: Branches.Deleted) -> None:
        """Delete a branch of any path; the text on the screen stays if it can."""
        if self._is_refused():
            return
        index = self.index or 0
        self.document.remove(event.node)
        self.session.left = None
        self.show_path(min(index, len(self.document.path) - 1) if self.document.path else None)
        self.notify("Deleted; z restores it.", markup=False)
        self.session.keep()

    def on_branches_compared(self, event: Branches.Compared) -> None:
        """Show the branch on the screen and another one side by side."""
        if self._is_refused():
            return
        here, other = list(self.document.path), self.document.branch(event.node)
        begin = in_common(here, other)
        if begin == len(here) == len(other):
            said = "This branch is on the screen; highlight another one to compare them."
            self.notify(said, markup=False)
            return
        self._show_both(here, other, begin)

    def _show_both(self, here: list[Node], other: list[Node], begin: int) -> None:
        from tui.screens.comparison import ComparisonScreen, Side

        facts = f"The first {begin} tokens are the same" if begin else "No token is the same"
        facts = facts.replace("first 1 tokens are", "first token is")
        if begin < min(len(here), len(other)):
            settings = here[begin].sampling, other[begin].sampling
            spelling = spelling_of(self.controls.words if self.controls else {}, here)
            facts += f"; {differences(*settings, spelling)}" if all(settings) else ""
            networks = [network(each[begin].changes) for each in (here, other)]
            if networks[0] != networks[1]:
                facts += f"; inside: {' → '.join(networks)}"
        names = f"{self._called(here)}, on the screen", self._called(other)
        sides = [
            Side(", ".join((name, *_networks(nodes, begin))), nodes, begin)
            for name, nodes in zip(names, (here, other), strict=True)
        ]
        self.app.push_screen(ComparisonScreen(facts, *sides))

    def _called(self, branch: list[Node]) -> str:
        """The name that the reader gave a branch, or its number."""
        ends = [each.end for each in self.document.all_branches()]
        end = self.document.branch(branch[-1])[-1]
        return self.document.remark_of(end).name or f"Branch {ends.index(end) + 1}"

    def on_branches_changed(self) -> None:
        """Save the text; a run saves it at its end."""
        self.show_token()
        if not self.session.is_busy:
            self.session.keep()


def _networks(nodes: Sequence[Node], begin: int) -> Iterator[str]:
    """What was changed in the networks that tokens from `begin` on came from, in words; and for
    which of them, if not for all."""
    for changes, places in places_of(nodes).items():
        after = [place for place in places if place >= begin]
        if after:
            is_all = len(after) == len(nodes) - begin
            yield said(changes) + f" in {stretch(after)}" * (not is_all)
