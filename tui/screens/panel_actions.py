"""Actions that show panels, and the welcome of an empty text."""

from __future__ import annotations

from textual import on

from tui.screens.live_panels import LivePanels
from tui.widgets.prompt import Prompt
from tui.widgets.welcome import Welcome


class PanelActions(LivePanels):
    """Each action's conditions are in the table of possible actions."""

    def action_to_text(self) -> None:
        """Move the focus from the prompt into the text, before the next key is read."""
        self.set_focus(self.view)

    def action_show_panel(self, name: str) -> None:
        """Show the panel with this id."""
        self.panels.chosen = name

    def action_panel(self, by: int) -> None:
        """Show the next (1) or previous (-1) panel."""
        self.panels.step(by)

    def action_waterfall(self) -> None:
        """Show or hide what each setting does to the selected token."""
        self.table.display = not self.table.display
        self.set_class(self.table.display, "-odds")
        if self.table.display and self.has_class("-one"):
            self.view.focus()  # the panels are hidden
        self.explain()

    def action_layers(self) -> None:
        """Show each layer's guess next to the text; if it is there already, move into the panel."""
        panel = self.layers_panel
        if panel and self.panels.chosen == "layers":
            self._enter("layers")
        else:
            self.panels.chosen = "layers"

    def action_attention(self) -> None:
        """Colour the text by attention, and choose layer and head."""
        self.panels.chosen = "layers"
        self._enter("layers")

    def action_tree(self) -> None:
        """Show all branches, and choose one."""
        self.panels.chosen = "tree"
        self._enter("tree")

    def _enter(self, name: str) -> None:
        """Focus the first widget of a panel that takes the focus."""
        panel = self.query_one(f"#{name}")
        inside = [each for each in self.focus_chain if panel in each.ancestors_with_self]
        if inside:
            inside[0].focus()

    def leave_panel(self) -> bool:
        """Go back from a panel to the text; False if no panel was chosen or focused."""
        is_inside = any(
            each.id in ("layers", "tree")
            for each in (self.focused.ancestors_with_self if self.focused else ())
        )
        if not is_inside and self.panels.chosen == "token":
            return self.view.use_own_scale()
        self.panels.chosen = "token"
        if self.document.path and not self.view.has_focus:
            self.view.focus()
        return True

    # The welcome.

    @on(Prompt.Chose)
    def _choose_opening(self, event: Prompt.Chose) -> None:
        welcome = self.query_one(Welcome)
        if welcome.display:
            welcome.choose(event.by)

    def action_open_with(self, index: int) -> None:
        """Send an opening line of the welcome."""
        welcome = self.query_one(Welcome)
        welcome.chosen = index
        self.write(welcome.opening)
