"""A model of this machine, as the commands for pipes ask it."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cached_property

from gpt.chat import MODEL, PERSON, turn
from gpt.chat_template import ChatTemplate, read_template
from gpt.commands.language_model import Drawing
from gpt.fast.branches import Branch, branches
from gpt.generate import blocked, score
from gpt.interpret.intervene import intervened
from gpt.interventions import Intervention
from gpt.limits import Limits
from gpt.loaded import LoadedModel
from gpt.settings import Sampling
from gpt.step import FinishReason, Step
from gpt.tokenizer import encode_more_special


class _Drawing:
    """Tokens as they are drawn, and the reason that the last one gives for the end."""

    def __init__(self, steps: Iterator[Step], reason: FinishReason | None) -> None:
        self._steps = steps
        self.finish_reason = reason

    def __iter__(self) -> Iterator[Step]:
        for step in self._steps:
            self.finish_reason = step.finish_reason
            yield step


def _apart(drawn: Iterator[tuple[int, Step]], n: int) -> list[Iterator[Step]]:
    """The Steps of each of n branches. What comes while another one is asked for waits."""
    waiting: list[deque[Step]] = [deque() for _ in range(n)]

    def of(branch: int) -> Iterator[Step]:
        while True:
            while waiting[branch]:
                step = waiting[branch].popleft()
                yield step
                if step.finish_reason:
                    return
            if (found := next(drawn, None)) is None:
                return
            waiting[found[0]].append(found[1])

    return [of(branch) for branch in range(n)]


class LocalModel:
    """A loaded model."""

    can_slide = True

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._context = loaded.context
        self._interventions: tuple[Intervention, ...] = ()
        self.vocab_size = loaded.context.config.vocab_size
        self.block_size = loaded.context.config.block_size
        self.drops_blank = loaded.context.tokenizer.drops_blank

    @cached_property
    def _template(self) -> ChatTemplate | None:
        return read_template(self._loaded.directory)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text. special: whether the name of a special token is that token."""
        return self._context.encode(text, special=special)

    def encode_more(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text that continues another one."""
        tokenizer = self._context.tokenizer
        return encode_more_special(tokenizer, text) if special else tokenizer.encode_more(text)

    def score(self, ids: list[int], *, start: int = 0, top: int) -> Iterator[Step]:
        """A Step for every token from start on."""
        return score(self._context, ids, start=start, top=top)

    def generate(self, ids: list[int], sampling: Sampling, limits: Limits, *, top: int) -> Drawing:
        """Tokens that are drawn after ids."""
        return self.branches(ids, sampling, limits, 1, top=top)[0]

    def branches(
        self, ids: list[int], sampling: Sampling, limits: Limits, n: int, *, top: int
    ) -> list[Drawing]:
        """Several continuations of ids, each with the next seed; drawn at the same time."""
        wanted = [Branch(sampling.branch(i)) for i in range(n)]
        grows_by = limits.max_new_tokens if limits.slide else 0
        change = self._context, self._interventions, ids
        with intervened(*change, grows_by=grows_by):
            pass  # what cannot be changed is refused before anything is printed

        def drawn() -> Iterator[tuple[int, Step]]:
            with intervened(*change, grows_by=grows_by) as changed:
                yield from branches(changed, ids, wanted, limits, top=top)

        reason = blocked(self._context, ids, limits)
        return [_Drawing(steps, reason) for steps in _apart(drawn(), n)]

    def changed(self, interventions: Sequence[Intervention]) -> LocalModel:
        """The same model that draws with these changes inside its network."""
        other = copy.copy(self)
        other._interventions = tuple(interventions)
        return other

    @property
    def about_chat(self) -> str:
        """How turns are marked if the model was not trained on a chat's; empty: it was."""
        if self._template is not None:
            return ""
        if self._loaded.checkpoint.manifest.origin.get("ends_turns"):
            how = "each turn ends with its end-of-text token"
        else:
            how = f"it continues a dialogue of {PERSON} and {MODEL}"
        return f"this model has no chat template: {how}"

    def turn(self, ids: list[int], text: str, system: str) -> tuple[list[int], Sequence[str]]:
        """A conversation with a person's turn after it, and the strings that end the answer."""
        checkpoint = self._loaded.checkpoint
        found = turn(checkpoint, ids, text, system=system, template=self._template)
        return found.ids, found.stops
