"""Actions on the model: change it, restart the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpt.errors import UserError
from tui.backend import BackendError
from tui.runs import READY
from tui.screens.session_screen import SessionScreen
from tui.servers import at_same_server

if TYPE_CHECKING:
    from tui.screens.server import Wish


class ModelActions(SessionScreen):
    """Each action's conditions are in the table of possible actions."""

    def action_models(self) -> None:
        """Choose another model, which then reads the text on the screen."""
        loaded = self.session.loaded
        if loaded and loaded.capabilities.server:
            from tui.screens.server import ServerScreen

            self.app.push_screen(ServerScreen(loaded), self._at_server)
        else:
            self._pick_model()

    def _pick_model(self) -> None:
        from tui.screens.models import ModelPicker

        session = self.session
        picker = ModelPicker(session.model, servers=session.servers.named, others=session.models)
        self.app.push_screen(picker, self._change_model)

    def _at_server(self, wish: Wish | None) -> None:
        """Do what was chosen in the dialog of the server."""
        if wish is None:
            return
        if wish.what == "others":
            self._pick_model()
        elif wish.what == "probe":
            self.switch_model(self.session.model, probe=True)
        else:
            self._change_model(at_same_server(self.session.model, wish.model))

    def _change_model(self, model: str | None) -> None:
        if model is None or model == self.session.model:
            return
        if self.switch_model(model):
            self.document.changes = ()  # they name parts of the former model
            if self.document.path:
                if n := self.document.branch_count - 1:
                    others = "one other branch stays" if n == 1 else f"{n} other branches stay"
                    said = f"The new model reads this branch; {others} in the old text (F3)."
                    self.notify(said, markup=False)
                self.follow(self.session.read_again())

    def switch_model(self, model: str, *, probe: bool = False) -> bool:
        """Load another model; False after an error message. probe: measure its server again."""
        try:
            self.session.switch(model, probe=probe)
        except (BackendError, UserError) as error:
            self.complain(str(error))
            return False
        self.show_status()
        self.load()
        return True

    def action_restart(self) -> None:
        """Start a new engine with the same model; the text stays."""
        self.session.restart()
        self.show_status()
        self.draw(READY)
        self.load()
        self.notify("The engine starts again; your text stays.", markup=False)
