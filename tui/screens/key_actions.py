"""The panel of all keys: the next key, a click elsewhere or another window hides it."""

from __future__ import annotations

from textual import events
from textual.errors import NoWidget

from tui.screens.session_screen import SessionScreen


class KeyActions(SessionScreen):
    """Shows the panel, which is mounted when it is first wanted."""

    async def action_all_keys(self) -> None:
        """Show what every key does now."""
        from tui.commands import key_commands
        from tui.widgets.which_key import WhichKey

        if not self.query(WhichKey):
            await self.mount(WhichKey())
        commands = [
            each for each in key_commands(self) if each.key and each.key.place != "in the prompt"
        ]
        self.query_one(WhichKey).show(commands)

    def on_key(self, event: events.Key) -> None:
        """Hide the panel before a key acts."""
        for panel in self.query("WhichKey"):
            panel.before_key(event)  # type: ignore[attr-defined]

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Hide the panel at a click elsewhere."""
        try:
            clicked, _ = self.get_widget_at(*event.screen_offset)
        except NoWidget:  # the window has become smaller since
            return
        for panel in self.query("WhichKey"):
            panel.display = panel.display and panel in clicked.ancestors_with_self

    def on_descendant_focus(self) -> None:
        """Hide the panel when something else has the focus."""
        for panel in self.query("WhichKey"):
            panel.display = False

    def on_screen_suspend(self) -> None:
        """Hide the panel below another window."""
        for panel in self.query("WhichKey"):
            panel.display = False
