"""Two continuations of the same text side by side; where they differ they are underlined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Footer, Static

from gpt.sanitize import one_line
from gpt.settings import Sampling
from tui.document import Node
from tui.measure import measure
from tui.widgets.token_view import TokenView


class ComparisonScreen(Screen[None]):
    """The old one on the left, the new one on the right; both are branches of the text."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter", "dismiss(None)", "back to the text", id="comparison.back")
    ]

    def __init__(self, old: Sequence[Node], new: Sequence[Node], begin: int) -> None:
        super().__init__()
        self._sides = {"old": old, "new": new}
        self._begin = begin
        """Index of the first token that was drawn anew."""

    def compose(self) -> ComposeResult:
        """A line of facts over two views."""
        old, new = self._sides["old"], self._sides["new"]
        yield Static(
            Content(one_line(differences(old[self._begin].sampling, new[self._begin].sampling)))
        )
        with Horizontal():
            for name in self._sides:
                yield TokenView(id=name)
        yield Footer()

    def on_mount(self) -> None:
        """Fill the views."""
        for (name, nodes), other in zip(
            self._sides.items(), reversed(self._sides.values()), strict=True
        ):
            view = self.query_one(f"#{name}", TokenView)
            view.show(nodes)
            view.compare_with(other)
            drawn = measure([node.step for node in nodes[self._begin :]])
            title = "as it was" if name == "old" else "what if"
            perplexity = "" if drawn.perplexity is None else f", perplexity {drawn.perplexity:.2f}"
            view.border_title = Content(f"{title}: {drawn.n_tokens} tokens{perplexity}")


def differences(old: Sampling | None, new: Sampling | None) -> str:
    """Which settings are others, and how."""
    if old is None or new is None:
        return "the settings of one of them are not known"
    found = [
        f"{field.name.replace('_', ' ')} {getattr(old, field.name)} → {getattr(new, field.name)}"
        for field in fields(Sampling)
        if getattr(old, field.name) != getattr(new, field.name)
    ]
    return "the same dice; " + (", ".join(found) or "no setting is another")
