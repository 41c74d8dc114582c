"""Questions to the model about the selected token, and settings of a single token."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from textual import work

from gpt.errors import UserError
from gpt.sanitize import one_line
from gpt.settings import Sampling
from gpt.step import Step
from tui.changes import of_network
from tui.commands import Program
from tui.heat import influence
from tui.labels import name_of, shortened
from tui.screens.running import RunningScreen

if TYPE_CHECKING:
    from tui.screens.inside import Chosen


class TokenActions(RunningScreen):
    """Each action's conditions are in the table of possible actions."""

    _inside: Chosen | None = None
    """What was looked at inside the network last."""

    def action_lines(self) -> None:
        """Show the numbers of each line."""
        from tui.screens.lines import LinesScreen

        steps = [node.step for node in self.document.path]
        drawn = self.session.perplexity if self.session.is_of_drawn else None
        self.app.push_screen(LinesScreen(steps, drawn), self._go_to)

    def _go_to(self, index: int | None) -> None:
        if index is not None:
            self.view.action_select(index)
            self.view.focus()

    def action_paths(self) -> None:
        """Show likely continuations after the selected token."""
        if (index := self.index) is not None:
            self._find_paths(self.document.ids[: index + 1])

    @work(group="paths", exclusive=True)
    async def _find_paths(self, ids: list[int]) -> None:
        from tui.screens.paths import PathsScreen

        acting = self.document.changes
        found = await self.answer(self.session.backend.paths(ids, acting))
        if found is not None:
            screen = PathsScreen(found, of_network(acting, acting))
            self.app.push_screen(screen, lambda path: self._take_path(len(ids), path))

    def _take_path(self, at: int, path: list[int] | None) -> None:
        """Add the tokens of a path after the token that it belongs to."""
        if path:
            self.write(at=at, new_ids=path, length=0)

    def action_attribution(self) -> None:
        """Colour the text by each token's influence on the selected one."""
        if (index := self.index) is not None:
            self._find_attribution(index)

    @work(group="layers", exclusive=True)
    async def _find_attribution(self, index: int) -> None:
        ids, node = self.document.ids, self.document.path[index]
        changes = node.changes
        asked = self.session.backend.attribution(ids[:index], ids[index], changes)
        found = await self.answer(asked)
        if found is not None:
            bits = [None if nats is None else nats / math.log(2) for nats in found]
            title = f'Influence on "{_name(node.step)}" at {index}'
            words = of_network(changes, self.document.changes)
            self.view.set_scale(influence(", ".join(filter(None, (title, words))), bits))

    def action_inside(self) -> None:
        """Look inside the network at the selected token."""
        from gpt.config import ModelConfig
        from tui.screens.inside import Chosen, InsideScreen

        index, model = self.index, self.session.loaded
        if index is None or model is None:
            self.complain("The model is still loading.")
            return
        try:
            config = ModelConfig.from_dict(model.config)
        except UserError as error:
            self.complain(str(error))
            return
        self._inside = self._inside or Chosen()
        screen = InsideScreen(self.session, config, index, self._inside)

        def back(_: None) -> None:
            self._go_to(screen.place.index)
            self.show_token()

        self.app.push_screen(screen, back)

    def action_whole_network(self) -> None:
        """End all changes inside the network."""
        if self._inside:
            self._inside.changes = ()
        self.document.changes = ()
        if self.document.path:
            self.session.keep()
        self.show_token()
        self.notify("The model writes with the whole network again.", markup=False)

    def action_preset(self) -> None:
        """Choose a preset of the sampling settings."""
        from tui.screens.presets import PresetPicker

        controls = self.controls

        def chosen(name: str | None) -> None:
            if controls and name is not None:
                controls.use_preset(name)
                self.notify(f"Sampling settings: preset {name}", markup=False)

        if controls:
            self.app.push_screen(PresetPicker(controls.preset), chosen)

    def action_reset_settings(self) -> None:
        """Use the settings that the program starts with; no word is banned or boosted."""
        if self.controls:
            self.controls.reset(cast(Program, self.app).preferences.settings)
            self.notify(
                "Sampling settings as at the start; seed, length and branches stay", markup=False
            )

    def action_order(self) -> None:
        """Change the order in which the sampling settings act."""
        from tui.screens.order import OrderScreen

        controls = self.controls

        def chosen(order: tuple[str, ...] | None) -> None:
            if controls and order is not None:
                controls.order = Sampling(order=order).order

        if controls:
            self.app.push_screen(OrderScreen(controls.order, controls.acting), chosen)

    def action_ban(self) -> None:
        """Ban the selected token, or the text of several, or allow it again."""
        if self.controls and (step := self.step):
            tokens = self.document.path[self.view.selection.start : self.view.selection.stop]
            text = "".join(node.step.text for node in tokens)
            if text and not text.isprintable():
                self.complain("A text with a line break cannot be banned; select words.")
                return
            banned = self.controls.toggle_words(text) if text else self.controls.toggle_ban(step)
            name = one_line(shortened(text, 60)) or _name(step)
            said = f'Banned "{name}", in this and other texts' if banned else None
            self.notify(said or f'Allowed "{name}"', markup=False)

    def action_boost(self, nats: float) -> None:
        """Add nats to the boost of the selected token."""
        if self.controls and (step := self.step):
            try:
                now = self.controls.boost(step, nats)
            except UserError as error:
                self.complain(str(error))
                return
            said = f'Boosted "{_name(step)}" by {now:+g} nats' if now else "Boost removed"
            if self.controls.is_banned(step):
                said += "; it stays banned (x)"
            self.notify(said, markup=False)


def _name(step: Step) -> str:
    return name_of(step)
