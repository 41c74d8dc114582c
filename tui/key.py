"""What a key is: its name, its action, its group, and the words by which people look for it."""

from __future__ import annotations

from typing import Literal, NamedTuple

from textual.binding import Binding

Place = Literal["everywhere", "in the text", "in the prompt"]
PLACES: tuple[Place, ...] = ("everywhere", "in the text", "in the prompt")
Group = Literal["Move", "Change", "Look inside", "Compare", "Keep", "Program"]
GROUPS: tuple[Group, ...] = ("Move", "Change", "Look inside", "Compare", "Keep", "Program")


class Key(NamedTuple):
    """One action and its default keys."""

    id: str
    """Name in the preferences file."""
    keys: str
    """Names of Textual, separated by commas."""
    action: str
    description: str
    place: Place = "everywhere"
    show: bool = False
    """Whether the footer shows it."""
    priority: bool = False
    """Whether it acts before the widget that has the focus."""
    label: str = ""
    """What the footer calls the action, if not by its description."""
    group: Group = "Program"
    help: str = ""
    """What it does, in a sentence; the field's term first. Keys that belong together share it."""
    short: str = ""
    """One or two words for a narrow place, if neither label nor description is that short."""
    synonyms: str = ""
    """More words by which people look for it, separated by spaces."""

    @property
    def binding(self) -> Binding:
        """The same as a binding of Textual."""
        return Binding(
            self.keys,
            self.action,
            self.label or self.description,
            show=self.show,
            priority=self.priority,
            id=self.id,
            tooltip=self.description if self.label else "",
        )

    @property
    def words(self) -> str:
        """What a narrow place calls the action."""
        return self.short or self.label or self.description


BRANCH = (
    "Branch: show the next or the previous continuation at the nearest fork before this token. It "
    "takes you back after you took another candidate."
)
BRANCH_SYNONYMS = (
    "alternative version other continuation fork switch swipe undo go back return old text"
)
"""Words by which people look for it."""
TREE = "Branches: all continuations of this text as a tree; Enter goes to one, and you can name it."
PAGE = "Scroll the text by a page, also while you write."
