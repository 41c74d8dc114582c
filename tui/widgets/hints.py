"""The line of keys at the foot of a screen."""

from __future__ import annotations

from textual import events
from textual.widgets import Footer


class Hints(Footer):
    """A footer that shows only the hints that fit completely."""

    def on_resize(self) -> None:
        """Fit the hints to the new width."""
        self._fit()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """A click on a grey key says why it is not possible, like the key itself."""
        key, _ = self.screen.get_widget_at(*event.screen_offset)
        if key.has_class("-disabled"):
            self.app.simulate_key(getattr(key, "key", ""))

    async def recompose(self) -> None:
        """Show other hints."""
        await super().recompose()
        self._fit()

    def _fit(self) -> None:
        keys = list(self.query("FooterKey"))
        keys.sort(
            key=lambda key: not key.has_class("-command-palette")
        )  # has its place at the right
        left = self.size.width
        for key in keys:
            left -= key.get_content_width(self.size, self.app.size) + key.gutter.width
            key.display = left >= 0
