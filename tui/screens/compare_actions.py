"""Actions that compare: other settings, a second model, typed continuations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from textual import work

from gpt.errors import UserError
from tui.changes import network
from tui.changes import said as in_short
from tui.news import News, SecondReading, SecondText, WhatIf
from tui.sampling_words import differences, said_seed, spelling_of
from tui.screens.running import RunningScreen


class CompareActions(RunningScreen):
    """Each action's conditions are in the table of possible actions."""

    def action_what_if(self) -> None:
        """Sample again with the same random seed and the current settings, and compare."""
        from tui import second_opinion

        begin = self._first_drawn()
        if begin is None or self.controls is None:
            return
        try:
            sampling = self.controls.sampling(new_seed=False)
        except UserError as error:
            self.complain(str(error))
            return
        slide = self.controls.slide
        self._compare(second_opinion.what_if(self.session, begin, sampling, slide=slide))

    def action_what_if_second(self) -> None:
        """Let a second model continue with the same random seed and settings, and compare."""
        from tui import second_opinion

        if (begin := self._first_drawn()) is not None:
            title = "Second model, to write the same passage"
            self._choose(title, lambda model: second_opinion.write_with(self.session, model, begin))

    def action_compare(self) -> None:
        """Let a second model read the text, and compare."""
        from tui import second_opinion

        title = "Second model, to read this text"
        self._choose(title, lambda model: second_opinion.read_with(self.session, model))

    def _first_drawn(self) -> int | None:
        """Index of the first sampled token, not before the selected one; at the end of the text,
        of the first one that the model drew in one go, as one token alone says little."""
        if self.index is None:
            return None
        path, begin = self.document.path, self.document.first_drawn(self.index)
        if begin == len(path) - 1:
            while begin and path[begin - 1].sampling is not None:
                begin -= 1
        return begin

    def _choose(self, title: str, then: Callable[[str], AsyncIterator[News]]) -> None:
        from tui.screens.models import ModelPicker

        def chosen(model: str | None) -> None:
            if model is not None:
                self._compare(then(model))

        session = self.session
        named = session.servers.named
        picker = ModelPicker(session.model, title, named, session.models, is_second=True)
        self.app.push_screen(picker, chosen)

    @work(group="write")
    async def _compare(self, run: AsyncIterator[News]) -> None:
        """Draw a run whose result is a comparison, and show that."""
        self.offer()
        selected = self.view.selected
        async for news in run:
            match news:
                case WhatIf():
                    if selected is not None:
                        self.view.action_select(selected)
                    if len(news.new) > news.begin:
                        self._show_what_if(news)
                case SecondText():
                    self._show_texts(news)
                case SecondReading():
                    self._show_readings(news)
                case _:
                    self.draw(news)

    def _show_what_if(self, found: WhatIf) -> None:
        from tui.screens.comparison import ComparisonScreen, Side, WhatIfScreen
        from tui.widgets.branches import Branches

        old, new, begin = found.old, found.new, found.begin
        spelling = spelling_of(self.controls.words if self.controls else {}, old)
        changed = differences(old[begin].sampling, new[begin].sampling, spelling)
        said = f"{said_seed(self.capabilities)}; {changed}"
        titles = ["Original", "What if"]
        changes = [nodes[begin].changes for nodes in (old, new)]
        if any(changes):
            said += f"; inside: {' → '.join(dict.fromkeys(map(network, changes)))}"
            short = [in_short(each) or "whole network" for each in changes]
            titles = [f"{title}, {words}" for title, words in zip(titles, short, strict=True)]
        sides = Side(titles[0], old, begin), Side(titles[1], new, begin)
        document, here = self.document, set(old)
        fork = next((node for node in new if node not in here), None)
        if fork is None:  # the same settings drew the same text
            said += ". Change a setting, then press F8 again" * (not any(changes))
            self.app.push_screen(ComparisonScreen(said, *sides))
            return
        screen = WhatIfScreen(said, *sides)

        def decided(_: None) -> None:
            if screen.kept == "new":
                self.show_path(document.show(fork))
                self.session.keep()
            elif screen.kept == "old":
                self.post_message(Branches.Deleted(fork))
            else:
                self.notify("The other text is now a branch; ] shows it.", markup=False)

        self.app.push_screen(screen, decided)

    def _show_texts(self, found: SecondText) -> None:
        from tui.screens.comparison import ComparisonScreen, Side

        sides = (
            Side(self.session.model, found.old, found.old_begin),
            Side(found.model, found.new, found.new_begin),
        )
        which = "same model" if found.model == self.session.model else "other model"
        said = f"{said_seed(self.capabilities)}; same settings; {which}"
        self.app.push_screen(ComparisonScreen(said, *sides))

    def _show_readings(self, found: SecondReading) -> None:
        from tui.screens.model_comparison import ModelComparisonScreen, Reading

        own = Reading(self.session.model, found.old, self.inspector.vocab_size)
        other = Reading(found.model, found.new, found.vocab_size)
        here = self.view.index or 0
        self.app.push_screen(ModelComparisonScreen(own, other, found.divergence, here))

    def action_options(self) -> None:
        """Compare continuations that the person types after the selected token."""
        from tui.screens.options import OptionsScreen

        if (index := self.index) is not None:
            before = self.document.path[: index + 1]
            ids, text = [n.step.token_id for n in before], "".join(n.step.text for n in before)
            screen = OptionsScreen(self.session.backend, ids, text, self.document.changes)
            self.app.push_screen(screen, self._take_option)

    def _take_option(self, text: str | None) -> None:
        if text and self.index is not None:
            self.write(text, self.index + 1, length=0, as_is=True)
