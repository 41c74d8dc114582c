"""Two continuations of the same text side by side; differences are underlined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widgets import Static

from gpt.sanitize import one_line
from tui.document import Node
from tui.measure import measure
from tui.screens.dialog import HELP, Page
from tui.widgets.hints import Hints
from tui.widgets.token_view import TokenView


@dataclass(frozen=True)
class Side:
    """One of two continuations."""

    title: str
    nodes: Sequence[Node]
    """The whole text."""
    begin: int
    """Index of the first token of the continuation."""


COLOURS = Binding("c", "colours", "change colouring", priority=True, id="comparison.colours")


class ComparisonScreen(Page):
    """A line of facts above two texts."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter", "dismiss(None)", "back to the text", id="comparison.back"),
        COLOURS,
    ]

    def __init__(self, said: str, left: Side, right: Side) -> None:
        super().__init__()
        self._said = said
        self._sides = left, right

    def compose(self) -> ComposeResult:
        """The facts, the texts, the footer."""
        yield Static(Content("\n").join(map(Content, (one_line(self._said), self._measured()))))
        with Horizontal():
            for _ in self._sides:
                yield TokenView()
        yield Hints()

    def on_mount(self) -> None:
        """Fill the texts."""
        others = reversed(self._sides)
        for view, side, other in zip(self.query(TokenView), self._sides, others, strict=True):
            view.show(side.nodes)
            view.compare_with(other.nodes)
            view.caption = one_line(side.title)
        self.call_after_refresh(self._show_fork)

    def _measured(self) -> str:
        """Perplexity and length of both continuations."""
        said = []
        for side in self._sides:
            whole = measure([node.step for node in side.nodes[side.begin :]])
            n = f"{whole.n_tokens} token" + "s" * (whole.n_tokens != 1)
            networks = {node.changes for node in side.nodes[side.begin :]}
            n += f" from {len(networks)} networks" * (len(networks) > 1)
            ratio = whole.perplexity
            said.append(n if ratio is None else f"perplexity {ratio:.2f} ({n})")
        return f"The continuations: {said[0]} and {said[1]}"

    def _show_fork(self) -> None:
        """Show both texts at the first token that differs."""
        both = ([node.step.token_id for node in side.nodes] for side in self._sides)
        pairs = enumerate(zip_longest(*both))
        fork = next((index for index, (own, other) in pairs if own != other), 0)
        for view in self.query(TokenView):
            view.action_select(fork)

    def action_colours(self) -> None:
        """Colour both texts by the next scale."""
        for view in self.query(TokenView):
            view.action_colours()


class WhatIfScreen(ComparisonScreen, inherit_bindings=False):
    """A text and another version of it: the person keeps both, or one of them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *HELP,
        COLOURS,
        Binding("escape", "decide('both')", "keep both", id="comparison.both"),
        Binding("enter", "decide('new')", "go on with the new text", id="comparison.use"),
        Binding("delete", "decide('old')", "discard the new text", id="comparison.discard"),
    ]
    kept: Literal["both", "new", "old"] | None = None
    """What the person wants to keep: the first of several keys that come together counts."""

    def action_decide(self, kept: Literal["both", "new", "old"]) -> None:
        """Close the screen."""
        self.kept = self.kept or kept
        self.dismiss(None)
