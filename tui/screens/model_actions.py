"""Actions on the model: change it, restart the engine."""

from __future__ import annotations

from tui.runs import READY
from tui.screens.session_screen import SessionScreen


class ModelActions(SessionScreen):
    """Each action's conditions are in the table of possible actions."""

    def action_models(self) -> None:
        """Choose another model, which then reads the text on the screen."""
        from tui.screens.models import ModelPicker

        self.app.push_screen(ModelPicker(self.session.model), self._change_model)

    def _change_model(self, model: str | None) -> None:
        if model is None or model == self.session.model:
            return
        self.switch_model(model)
        if self.document.path:
            self.follow(self.session.read_again())

    def switch_model(self, model: str) -> None:
        """Load another model."""
        self.session.switch(model)
        self.show_status()
        self.load()

    def action_restart(self) -> None:
        """Start a new engine with the same model; the text stays."""
        self.session.restart()
        self.show_status()
        self.draw(READY)
        self.load()
