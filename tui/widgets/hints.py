"""The line of keys at the foot of a screen."""

from __future__ import annotations

from textual.widgets import Footer


class Hints(Footer):
    """Textual's footer without the hints that have not room as a whole."""

    def on_resize(self) -> None:
        """Another width has room for others."""
        self._fit()

    async def recompose(self) -> None:
        """Other hints."""
        await super().recompose()
        self._fit()

    def _fit(self) -> None:
        keys = list(self.query("FooterKey"))
        keys.sort(key=lambda key: not key.has_class("-command-palette"))  # at the right, always
        left = self.size.width
        for key in keys:
            left -= key.get_content_width(self.size, self.app.size) + key.gutter.width
            key.display = left >= 0
