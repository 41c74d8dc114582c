"""What all views of the inside are about, what they ask, and what was answered; no widgets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from gpt.config import ModelConfig
from gpt.interpret.answers import Waterfall
from gpt.interventions import Intervention
from gpt.record import Record
from gpt.step import Step
from tui.changes import of_network
from tui.document import Node
from tui.labels import name_of

R = TypeVar("R", bound=Record | Waterfall)
Answer = Record | Waterfall
KEPT = 24
"""Answers that are kept; one may have a weight for each head and token."""


@dataclass(frozen=True)
class Place:
    """A token of the text, and a part of the network.

    Everything that is shown belongs to the position before the token, where it is predicted.
    """

    nodes: Sequence[Node]
    """The whole text."""
    index: int
    """The selected token; 0 has no context, so nothing can be asked about it."""
    config: ModelConfig
    layer: int
    """The chosen layer; 0 is the embedding."""
    head: int = 1
    is_middle: bool = False
    """Whether the stream between attention and MLP of the layer is chosen."""
    changes: tuple[Intervention, ...] = ()
    """What is changed inside the network in the views that change it."""
    acting: tuple[Intervention, ...] = ()
    """What is changed when the model continues the text."""
    branches: Callable[[], Sequence[Sequence[Node]]] = field(default=tuple, compare=False)
    """The other branches of the text, each from its first token on."""

    @property
    def step(self) -> Step:
        """The selected token."""
        return self.nodes[self.index].step

    @property
    def drawn_with(self) -> tuple[Intervention, ...]:
        """What was changed inside the network when the selected token was drawn or read."""
        return self.nodes[self.index].changes

    @property
    def whose(self) -> str:
        """Whose numbers a view shows that asks with `drawn_with`; empty: nothing is changed."""
        return of_network(self.drawn_with, self.acting)

    @property
    def of_whole(self) -> str:
        """The same for a view that shows the whole network whatever is changed."""
        return of_network((), self.drawn_with or self.acting)

    @property
    def block(self) -> int:
        """The chosen layer, or the first one if the embedding is chosen."""
        return max(1, self.layer)

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """The tokens before the selected one."""
        return self.ids_to(self.index)

    def ids_to(self, end: int) -> tuple[int, ...]:
        """The tokens before this index."""
        return tuple(node.step.token_id for node in self.nodes[:end])

    def name(self, index: int) -> str:
        """A token as a label; "…" after the end of the text."""
        return name_of(self.nodes[index].step) if index < len(self.nodes) else "…"

    @property
    def where(self) -> str:
        """The position that everything belongs to, in words."""
        return f'at "{self.name(self.index - 1)}", which predicts "{self.name(self.index)}"'

    @property
    def short_where(self) -> str:
        """The same for a narrow window."""
        return f'"{self.name(self.index - 1)}" → "{self.name(self.index)}"'


class Question(NamedTuple):
    """A request to the engine; equal ones have one answer."""

    op: str
    kind: type[Answer]
    """Class of the answer."""
    fields: tuple[tuple[str, Any], ...]
    """Names and values, which must be hashable."""


def question(op: str, kind: type[Answer], **fields: Any) -> Question:
    """A request with these fields; docs/engine.md describes them."""
    return Question(op, kind, tuple(fields.items()))


def of_drawn(place: Place, op: str, kind: type[Record], **fields: Any) -> Question:
    """A request to the network that the selected token was drawn with."""
    if place.drawn_with:
        fields["interventions"] = place.drawn_with
    return question(op, kind, **fields)


class Answers:
    """The latest answers, or why there was none."""

    def __init__(self) -> None:
        self._found: OrderedDict[Question, Answer | str] = OrderedDict()

    def put(self, asked: Question, found: Answer | str) -> None:
        """Keep an answer, or a reason against it."""
        self._found[asked] = found
        if len(self._found) > KEPT:
            self._found.popitem(last=False)

    def forget_reasons(self) -> None:
        """Ask again what was not answered."""
        for asked, found in list(self._found.items()):
            if isinstance(found, str):
                del self._found[asked]

    def __contains__(self, asked: Question) -> bool:
        return asked in self._found

    def get(self, asked: Question, kind: type[R]) -> R | None:
        """The answer; None if there is none yet."""
        found = self._found.get(asked)
        if found is not None:
            self._found.move_to_end(asked)
        return found if isinstance(found, kind) else None

    def reason(self, asked: Question) -> str:
        """Why there is no answer; empty if it was not refused."""
        found = self._found.get(asked)
        return found if isinstance(found, str) else ""
