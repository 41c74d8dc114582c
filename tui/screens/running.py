"""Letting the model write on the screen of a session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from gpt.errors import UserError
from gpt.settings import Sampling
from tui.commands import Program
from tui.labels import sentence, shortened
from tui.possible import Refusal
from tui.runs import CONTEXT_FULL, RunSettings, no_room
from tui.sampling_words import said_ignored
from tui.screens.session_screen import PROBLEM_SECONDS, SessionScreen


class RunningScreen(SessionScreen):
    """Base of the screens whose actions write."""

    def write(
        self,
        text: str = "",
        at: int | None = None,
        new_ids: Sequence[int] = (),
        length: int | None = None,
        as_is: bool = False,
    ) -> bool:
        """Let the model continue after the path, new_ids and text; False after an error message.

        at: cut the path to its first `at` tokens before. length: most tokens of a single branch,
        instead of the settings for length and branches. as_is: in a chat, the text is not a turn.
        """
        if self.controls is None:
            self.early_prompt = text or self.early_prompt
            return True
        settings = self.run_settings(length)
        return settings is not None and self.begin_run(settings, text, at, new_ids, as_is)

    def run_settings(self, length: int | None = None) -> RunSettings | None:
        """The settings of a run; None after an error message, or while the program starts."""
        if refused := self.refusal("write", ()):
            self.complain(refused.reason)
            return None
        try:
            return self.controls.settings(length) if self.controls else None
        except UserError as error:
            cast(Program, self.app).refuse(Refusal(shortened(sentence(str(error)))))
            return None

    def begin_run(
        self,
        settings: RunSettings,
        text: str = "",
        at: int | None = None,
        new_ids: Sequence[int] = (),
        as_is: bool = False,
    ) -> bool:
        """`write` with these settings; False after the reason why nothing can be written there."""
        slides_now = at is None and self.said == CONTEXT_FULL.message
        if slides_now and self.controls:
            self.controls.slide = True  # as the line below the prompt says
            settings = settings._replace(slide=True)
        n = (len(self.document.path) if at is None else at) + len(new_ids)
        adds = bool(text or new_ids or at is None)
        loaded, has_text = self.session.loaded, bool(text)
        if refused := no_room(n, loaded, settings, adds=adds, has_text=has_text):
            self.complain(refused)
            if refused == CONTEXT_FULL.message:
                self.say(refused)
            return False
        self.app.clear_notifications()  # they were about what was before
        if slides_now:
            self.notify("The setting “Slide context when full” is on now.", markup=False)
        self._say_ignored(settings.sampling)
        self._selected_before = self.view.selected
        run = self.session.run(settings, text, at, new_ids, as_is)
        if at is not None:
            self.show_text()
        self.view.action_newest()
        self.offer()
        self.follow(run)
        return True

    def _say_ignored(self, sampling: Sampling) -> None:
        """Say which settings of a run its server ignores, once for the same ones."""
        found = self.capabilities.ignored(sampling)
        if found and found != self._said_ignored:
            self.notify(
                said_ignored(found), severity="warning", markup=False, timeout=PROBLEM_SECONDS
            )
        self._said_ignored = found
