"""The field of the system prompt."""

from __future__ import annotations

from tui.widgets.field import Field


class Told(Field):
    """The system prompt: a line, or the lines of a text from elsewhere until they are edited."""

    def __init__(self, told: str) -> None:
        super().__init__(
            id="system",
            compact=True,
            placeholder="system prompt",
            tooltip="what the model of a chat is told before the first message of a new text",
        )
        self.tell(told)

    def tell(self, told: str) -> None:
        """Show a system prompt."""
        self._whole = told
        self.value = " ".join(told.split("\n"))
        self._shown = self.value

    @property
    def told(self) -> str:
        """The system prompt."""
        return self._whole if self.value == self._shown else self.value
