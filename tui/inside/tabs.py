"""The line of tabs above a view."""

from __future__ import annotations

from collections.abc import Sequence

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
        """All names if they fit; else the chosen one and those next to it, and digits."""
        whole = [f" {digit(n)} " for n in range(len(self._names))]
        for n in sorted(range(len(whole)), key=lambda n: abs(n - self.chosen)):
            named = [*whole[:n], f" {digit(n)} {self._names[n]} ", *whole[n + 1 :]]
            if sum(map(cell_len, named)) <= self.size.width or n == self.chosen:
                whole = named
        line = Text(no_wrap=True, overflow="crop")
        for n, text in enumerate(whole):
            look = Style(bold=True, reverse=True) if n == self.chosen else Style()
            line.append(text, look + Style.from_meta({"@click": f"screen.view({n})"}))
        return line


def digit(index: int) -> str:
    """The key of a view."""
    return str((index + 1) % 10)
