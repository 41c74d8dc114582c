"""What the settings on the screen do to the selected token, and what their words are."""

from __future__ import annotations

from dataclasses import replace

from textual import on, work
from textual.widgets import Input

from gpt.errors import UserError
from gpt.interpret.answers import Waterfall
from gpt.sanitize import one_line
from gpt.setting_names import setting_name
from gpt.settings import Ids, Sampling
from gpt.step import Candidate, Step
from gpt.typed_values import LARGEST
from gpt.word_ids import BYTES, forms, sequences
from tui.backend import BackendError, CancelledAnswerError
from tui.document import Node
from tui.labels import NO_CONTEXT, sentence
from tui.screens.running import RunningScreen
from tui.widgets.dial import is_named
from tui.widgets.waterfall import as_drawn


class LiveSettings(RunningScreen):
    """Asks the model again whenever a setting or the selected token changes."""

    _words_of = ""
    """Name of the model that the words in the settings were typed for."""

    def show_model(self) -> None:
        """Update what depends on the model."""
        super().show_model()
        model = self.session.loaded
        if model is None:
            return
        former, self._words_of = self._words_of, model.name
        if self.controls:
            named = self.controls.forget()
            if named and former not in ("", model.name):
                said = f"{', '.join(named)} in the settings may be another token of this model."
                self.complain(said)
            self.learn_words()

    def explain(self) -> None:
        """Show what the settings on the screen do to the selected token."""
        index = self.index
        if self.is_writing:
            self.table.why_empty = "The model is still at work"
        if self.is_writing or self.controls is None:
            return
        node = None if index is None else self.document.path[index]
        self.controls.show_former(None if node is None else node.sampling)
        self.workers.cancel_group(self, "waterfall")  # an older answer would come after this
        if not index or node is None:
            self.inspector.now = self.inspector.now_own = self.table.found = None
            self.table.why_empty = NO_CONTEXT if index == 0 else "Select a token"
            return
        try:
            sampling = self.controls.sampling(new_seed=False)
        except UserError as error:
            self.inspector.now = self.inspector.now_own = self.table.found = None
            self.table.why_empty = sentence(one_line(str(error)))
            return
        sampling = self.capabilities.applied(sampling)
        if node.sampling and not self.controls.has_seed:
            sampling = replace(sampling, seed=node.sampling.seed)
        sampling = node.at_token(sampling)
        if self._is_as_drawn(node, sampling):
            self.inspector.now = self.inspector.now_own = None
            if not self.table.display:
                return
        self._ask_waterfall(self.document.ids[:index], node, sampling)

    def _is_as_drawn(self, node: Node, sampling: Sampling) -> bool:
        """Whether a token was sampled with these settings and with what is changed inside now."""
        return node.changes == self.document.changes and _same(sampling, node.sampling)

    @work(group="waterfall", exclusive=True)
    async def _ask_waterfall(self, before: list[int], node: Node, sampling: Sampling) -> None:
        chosen = node.step.token_id
        acting = self.document.changes
        is_other = node.changes != acting
        # The best tokens of another network need not be those of this one.
        also = [each.token_id for each in node.step.candidates] if is_other else []
        asked = self.session.backend.waterfall(before, chosen, sampling, acting, also)
        found = await self.answer(asked)
        if found is None:
            self.inspector.now = self.inspector.now_own = self.table.found = None
            self.table.why_empty = "No answer; select the token again"
            return
        is_same = self._is_as_drawn(node, sampling)
        own = 0 if not node.changes else 1 if node.changes == acting else None
        found = as_drawn(found, node.step, own, same_settings=is_same)
        stages = sampling.stages if self.capabilities.server else ()
        missing = tuple(setting_name(each) for each in stages if each not in found.stages)
        is_known = not missing and not is_same
        other = ("other changed" if node.changes else "changed") if acting else "whole"
        self.inspector.acting = other if is_other else ""
        self.inspector.now = _stage(found, -1) if is_known else None
        self.inspector.now_own = (
            _stage(found, 1 if acting else 0) if is_known and is_other else None
        )
        tokens: list[Step | Candidate] = [node.step, *node.step.candidates]
        self.table.names = {each.token_id: each.name for each in tokens if each.name}
        self.table.chosen, self.table.missing = chosen, missing
        self.table.settings = sampling
        self.table.has_networks = bool(node.changes or acting)
        self.table.found = found

    @on(Input.Changed, "#banned, #boosted")
    @work(group="words", exclusive=True)
    async def learn_words(self) -> None:
        """Ask for the tokens of banned and boosted words."""
        controls, model = self.controls, self.session.loaded
        if controls is None or model is None:
            return
        controls.unusable.clear()  # the reason may be gone
        for word in controls.unknown_words():
            try:
                found = await self._cut_word(word, model.vocab_size)
            except CancelledAnswerError:
                return
            except (BackendError, UserError) as error:
                controls.unusable[word] = f"{word}: {error}"
            else:
                controls.learn(word, found)
        controls.check()

    async def _cut_word(self, word: str, vocab_size: int) -> tuple[Ids, ...]:
        """The ids of a word's forms, from the model. vocab_size: 0 if it is not known."""
        if is_named(word):
            return sequences(word, lambda _: [], vocab_size or LARGEST)
        wanted = forms(word, vocab_size or BYTES + 1)
        return tuple([(await self.session.backend.tokens(form)).ids for form in wanted])


def _same(now: Sampling, then: Sampling | None) -> bool:
    """Whether two settings give the same probabilities."""
    if then is None:
        return False
    seed = now.seed if "xtc_probability" in now.active else then.seed  # XTC tosses a coin
    return replace(now, seed=seed, mirostat_mu=then.mirostat_mu) == then


def _stage(found: Waterfall, index: int) -> dict[int, float]:
    """Token id → its probability after a stage."""
    return {row.token_id: row.probabilities[index] for row in found.rows}
