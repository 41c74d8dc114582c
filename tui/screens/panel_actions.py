"""Actions that show panels, and the welcome of an empty text."""

from __future__ import annotations

from textual import on
from textual.widget import Widget
from textual.widgets import Checkbox

from tui.runs import CONTEXT_FULL, READY
from tui.screens.live_panels import LivePanels
from tui.widgets.prompt import Prompt
from tui.widgets.welcome import Welcome

_HIDDEN = {
    True: "Presenter mode shows no panels; P ends it.",
    False: "The terminal has too few rows for panels.",
}
"""Whether the screen is in presenter mode → why no panel is visible."""


class PanelActions(LivePanels):
    """Each action's conditions are in the table of possible actions."""

    _before_table: Widget | None = None
    """What the table of F2 took the focus from."""

    def action_to_text(self) -> None:
        """Move the focus from the prompt into the text, before the next key is read."""
        self.set_focus(self.view)

    def action_show_panel(self, name: str) -> None:
        """Show the panel with this id; without room for panels, say so."""
        if self.table.display and not _is_displayed(self.panels):
            self.action_waterfall()  # it is in their place
        if _is_displayed(self.panels):
            self.panels.chosen = name
        else:
            self.notify(_HIDDEN[self.has_class("-presenting")], markup=False)

    def action_panel(self, by: int) -> None:
        """Show the next (1) or previous (-1) panel."""
        self.action_show_panel(self.panels.neighbour(by))

    async def action_set(self, name: str) -> None:
        """Go to the field of a setting."""
        if self.controls:
            field = await self.controls.field_of(name)
            if not _is_displayed(field):
                self.action_show_panel("sampling")
            if _is_displayed(field):
                self.set_focus(field, scroll_visible=False)  # at once: the next key is for it
                # Its place is known after the refresh that follows new fields.
                self.call_after_refresh(
                    self.call_after_refresh, field.scroll_visible, animate=False
                )

    def action_waterfall(self) -> None:
        """Show or hide what each setting does to the selected token."""
        self.table.display = not self.table.display
        self.set_class(self.table.display, "-table")
        self.update_node_styles()  # in one column this hides or shows the panels
        if self.table.display:
            before = self.focused
            self.keep_focus()
            self._before_table = before if before is not self.focused else None
        elif self._before_table and _is_displayed(self._before_table) and self.view.has_focus:
            self.set_focus(self._before_table)
        self.explain()

    def keep_focus(self) -> None:
        """Move the focus from something that is hidden to the text; without one, to the prompt.

        Keys that were typed at once with the one that hid it already go there.
        """
        if self.focused is None or not _is_displayed(self.focused):
            home = self.prompt if not self.document.path and self.prompt.display else self.view
            self.set_focus(home)

    def action_layers(self) -> None:
        """Show each layer's guess next to the text; if it is there already, move into the panel."""
        panel = self.layers_panel
        if panel and self.panels.chosen == "layers" and _is_displayed(panel):
            self._enter("layers")
        else:
            self.action_show_panel("layers")

    def action_attention(self) -> None:
        """Colour the text by attention, and choose layer and head."""
        self.action_show_panel("layers")
        self._enter("layers")

    def action_tree(self) -> None:
        """Show all branches, and choose one."""
        self.action_show_panel("tree")
        self.show_branches()  # at the branch of the text: with the focus, it stays where it is
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

    # What the line below the prompt says.

    def show_token(self) -> None:
        """Update everything that depends on the selected token or on the branch."""
        super().show_token()
        self._take_back()
        if not self.is_writing:
            self._remember_place()

    @on(Checkbox.Changed, "#slide")
    def _take_back(self) -> None:
        """Do not say that the context is full if it is not, or need not be."""
        loaded, controls = self.session.loaded, self.controls
        is_short = loaded and len(self.document.path) < loaded.block_size
        if self.said == CONTEXT_FULL.message and (is_short or (controls and controls.slide)):
            self.say(READY.message)

    # How a text is left.

    @on(Checkbox.Changed, "#slide, #chat")
    def remember(self) -> None:
        """Keep with the text what the settings are, and where the reader is."""
        if self.controls:
            self.document.setup = self.controls.setup()._replace(cursor=self.view.selected)

    def _remember_place(self) -> None:
        """Keep the selected token; the fields are read only if one changes, as they are many."""
        if self.document.setup is None:
            self.remember()
        else:
            self.document.setup = self.document.setup._replace(cursor=self.view.selected)

    def on_controls_turned(self) -> None:
        """A setting has another value; Textual calls this method of every base class too."""
        self.remember()

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


def _is_displayed(widget: Widget) -> bool:
    """Whether neither a widget nor what it is in is hidden."""
    return widget.is_mounted and all(each.display for each in widget.ancestors_with_self)
