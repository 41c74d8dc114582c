"""Questions to the model about the selected token, and settings of a single token."""

from __future__ import annotations

import math

from textual import work

from gpt.errors import UserError
from gpt.step import Step
from tui.heat import between
from tui.labels import visible
from tui.screens.session_screen import SessionScreen


class TokenActions(SessionScreen):
    """Each action's conditions are in the table of possible actions."""

    def action_waterfall(self) -> None:
        """Show or hide what each setting does to the selected token."""
        self.table.display = not self.table.display
        self.explain()

    def action_lines(self) -> None:
        """Show the numbers of each line."""
        from tui.screens.lines import LinesScreen

        steps = [node.step for node in self.document.path]
        self.app.push_screen(LinesScreen(steps), self._go_to)

    def _go_to(self, index: int | None) -> None:
        if index is not None:
            self.view.action_select(index)
            self.view.focus()

    def action_paths(self) -> None:
        """Show likely continuations after the selected token."""
        if (index := self.view.index) is not None:
            self._find_paths(self.document.ids[: index + 1])

    @work(group="paths", exclusive=True)
    async def _find_paths(self, ids: list[int]) -> None:
        from tui.screens.paths import PathsScreen

        found = await self.answer(self.session.backend.paths(ids))
        if found is not None:
            self.app.push_screen(PathsScreen(found), lambda path: self._take_path(len(ids), path))

    def _take_path(self, at: int, path: list[int] | None) -> None:
        """Add the tokens of a path after the token that it belongs to."""
        if path:
            self.write(at=at, new_ids=path, length=0)

    def action_layers(self) -> None:
        """Show each layer's guess at the selected token, and its attention."""
        if (index := self.view.index) is not None:
            self._find_layers(index)

    @work(group="layers", exclusive=True)
    async def _find_layers(self, index: int) -> None:
        from tui.screens.layers import LayersScreen

        nodes = self.document.path[: index + 1]
        ids = [node.step.token_id for node in nodes]
        found = await self.answer(self.session.backend.layers(ids[:-1], ids[-1]))
        if found is not None:
            self.app.push_screen(LayersScreen(nodes, found))

    def action_attribution(self) -> None:
        """Colour the text by each token's influence on the selected one."""
        if (index := self.view.index) is not None:
            self._find_attribution(index)

    @work(group="layers", exclusive=True)
    async def _find_attribution(self, index: int) -> None:
        ids, step = self.document.ids, self.document.path[index].step
        influence = await self.answer(self.session.backend.attribution(ids[:index], ids[index]))
        if influence is not None:
            bits = [None if nats is None else nats / math.log(2) for nats in influence]
            title = f'Influence on "{_name(step)}" (#{index}), bits'
            self.view.set_scale(between(title, bits))

    def action_preset(self) -> None:
        """Set the sampling settings to the next preset."""
        if self.controls:
            self.notify(f"Preset: {self.controls.next_preset()}", markup=False)

    def action_ban(self) -> None:
        """Ban the selected token, or allow it again."""
        if self.controls and (step := self.step):
            banned = self.controls.toggle_ban(step.token_id)
            self.notify(f'{"Banned" if banned else "Allowed"} "{_name(step)}"', markup=False)

    def action_boost(self, nats: float) -> None:
        """Add nats to the boost of the selected token."""
        if self.controls and (step := self.step):
            try:
                now = self.controls.boost(step.token_id, nats)
            except UserError as error:
                self.complain(str(error))
                return
            said = f'Boosted "{_name(step)}" by {now:+g} nats' if now else "Boost removed"
            self.notify(said, markup=False)


def _name(step: Step) -> str:
    return visible(step.bytes, step.token_id)
