"""A field for one line of text."""

from __future__ import annotations

from textual.widgets import Input


class Field(Input):
    """Textual's, which would hand control characters on to the terminal."""

    def validate_value(self, value: str) -> str:
        """Only what can be shown: a pasted escape code loses its power with its first character."""
        return "".join(character for character in value if character.isprintable())
