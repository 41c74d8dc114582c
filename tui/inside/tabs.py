"""The line of tabs above a view."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget


class Tabs(Widget):
    """The names of the views with their digits; a click acts like the digit."""

    chosen: reactive[int] = reactive(0)
    """Index of the view that is shown."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = names

    def render(self) -> Text:
        """All that `shown` finds room for."""
        line = Text(no_wrap=True, overflow="crop")
        for n, text in shown(self._names, self.chosen, self.size.width).items():
            look = Style(bold=True, reverse=True) if n == self.chosen else Style()
            line.append(text, look + Style.from_meta({"@click": f"screen.view({n})"}))
        return line


def shown(names: Sequence[str], chosen: int, width: int) -> dict[int, str]:
    """Index → what stands on its tab: all names if they fit, with fewer spaces if need be.

    Else digits in place of the names that are farthest from the chosen one; in a line that is
    too short for these, the tabs nearest to it, so that the chosen one is whole.
    """
    for end in " ", "":
        tabs = {n: f" {digit(n)} {name}{end}" for n, name in enumerate(names)}
        if _cells(tabs) <= width:
            return tabs
    nearest = sorted(tabs, key=lambda n: abs(n - chosen))
    for n in nearest[:2:-1]:
        if _cells(tabs) > width:
            tabs[n] = f" {digit(n)}"
    for n in nearest[:0:-1]:
        if _cells(tabs) > width:
            del tabs[n]
    return tabs


def _cells(tabs: Mapping[int, str]) -> int:
    return sum(map(cell_len, tabs.values()))


def digit(index: int) -> str:
    """The key of a view."""
    return str((index + 1) % 10)
