"""A row of buttons of which one is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.style import Style
from textual.widget import Widget

_CHOSEN = Style(reverse=True, bold=True)
_FAINT = Style(dim=True)


class Choices(Widget, can_focus=True):
    """The arrow keys or a click choose; what is not possible is faint and says why."""

    DEFAULT_CSS = """
    Choices {
        height: auto;
        border: round $foreground 25%;
        border-title-color: $text-muted;
        border-subtitle-color: $text-muted;
        padding: 0 1;
        &:focus { border: round $primary; border-title-color: $text; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "previous", show=False, id="choices.previous"),
        Binding("right", "step(1)", "next", show=False, id="choices.next"),
    ]

    chosen: reactive[int] = reactive(0, init=False)
    """Index of the choice."""

    class Chosen(Message):
        """There is another choice."""

        def __init__(self, choices: Choices) -> None:
            super().__init__()
            self.choices = choices

        @property
        def control(self) -> Choices:
            """The row of buttons."""
            return self.choices

    def __init__(
        self, title: str, labels: Sequence[str], reasons: Sequence[str] = (), **kwargs: str
    ) -> None:
        """reasons: for each label why it is not possible; empty if it is."""
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self.border_title = Content(title)
        self._labels = labels
        self._reasons = reasons or [""] * len(labels)
        self.border_subtitle = Content(next(filter(None, self._reasons), ""))

    def render(self) -> Content:
        """The labels; a click on one chooses it."""
        found = []
        for i, (label, reason) in enumerate(zip(self._labels, self._reasons, strict=True)):
            style = _CHOSEN if i == self.chosen else _FAINT if reason else Style()
            button = Content(f" {label} ".replace(" ", "\u00a0")).stylize(style)
            found.append(button.stylize(f"@click=choose({i})"))
        return Content(" ").join(found)

    def watch_chosen(self) -> None:
        """Tell the screen."""
        self.post_message(self.Chosen(self))

    def action_choose(self, index: int) -> None:
        """Choose one, or say why not."""
        self.focus()
        if self._reasons[index]:
            self.border_subtitle = Content(self._reasons[index])
            self.notify(self._reasons[index], markup=False)
        else:
            self.chosen = index

    def action_step(self, by: int) -> None:
        """Choose the next (1) or previous (-1) possible one."""
        possible = [i for i, reason in enumerate(self._reasons) if not reason]
        here = possible.index(self.chosen) if self.chosen in possible else 0
        self.chosen = possible[max(0, min(here + by, len(possible) - 1))]
