"""The panels next to the text: which ones are visible, and the tabs in their titles."""

from __future__ import annotations

from textual.containers import Container
from textual.content import Content
from textual.css.query import NoMatches
from textual.message import Message
from textual.reactive import reactive

NAMES = {"token": "Token", "sampling": "Sampling", "layers": "Layers", "tree": "Branches"}
"""Id of each panel → its title."""
ALWAYS = {
    "one": (),
    "two": (),
    "two-high": ("sampling",),
    "three": ("layers",),
    "three-high": ("sampling", "layers"),
}
"""Layout of the screen → panels that are visible as well as the chosen one."""


class Panels(Container):
    """Shows one panel, and those that the screen always has room for.

    In a layout with a panel that is always visible, that one has no tab.
    """

    chosen: reactive[str] = reactive("token", init=False)
    """Id of the panel that the person chose."""
    arrangement: reactive[str] = reactive("two-high", init=False)
    """A key of ALWAYS."""

    class Switched(Message):
        """Other panels are visible."""

    @property
    def tabs(self) -> list[str]:
        """Ids of the panels of which one is shown."""
        return [name for name in NAMES if name not in ALWAYS[self.arrangement]]

    @property
    def shown(self) -> set[str]:
        """Ids of the visible panels."""
        first = self.chosen if self.chosen in self.tabs else "token"
        return {first, *ALWAYS[self.arrangement]}

    def neighbour(self, by: int) -> str:
        """Id of the next (1) or previous (-1) panel."""
        tabs = self.tabs
        here = tabs.index(self.chosen) if self.chosen in tabs else 0
        return tabs[(here + by) % len(tabs)]

    def lay_out(self) -> None:
        """Show and hide the panels that are mounted, and draw their titles."""
        shown = self.shown
        for name in NAMES:
            try:
                panel = self.get_child_by_id(name)
            except NoMatches:
                continue
            panel.display = name in shown
            panel.border_title = self._title(name)
        self.set_class("token" in shown, "-token")
        self.post_message(self.Switched())

    def _title(self, name: str) -> Content:
        """The name of a panel that is always visible, or all tabs with one of them marked."""
        if name not in self.tabs:
            return Content(NAMES[name])
        tabs = [
            Content(f" {NAMES[each]} ").stylize("bold reverse")
            if each == name
            else Content(NAMES[each]).stylize(f"@click=screen.show_panel({each!r})")
            for each in self.tabs
        ]
        return Content(" ─ ").join(tabs)

    def watch_chosen(self) -> None:
        """Show it."""
        self.lay_out()

    def watch_arrangement(self) -> None:
        """Make use of the room."""
        self.lay_out()
