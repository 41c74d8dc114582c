"""What the commands for pipes ask of a model, on this machine or at a server; without torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from gpt.limits import Limits
from gpt.settings import Sampling
from gpt.step import FinishReason, Step

if TYPE_CHECKING:
    from gpt.interventions import Intervention


class Drawing(Protocol):
    """Tokens as they are drawn."""

    finish_reason: FinishReason | None
    """Why they ended; None before that."""

    def __iter__(self) -> Iterator[Step]:
        """The tokens."""


class LanguageModel(Protocol):
    """A model that answers. Every list of ids is a whole text, from its first token on."""

    @property
    def vocab_size(self) -> int:
        """0: its server does not say."""

    @property
    def block_size(self) -> int:
        """Tokens in the longest context; 0: its server does not say."""

    @property
    def drops_blank(self) -> bool:
        """Whether a text's first token begins with a blank that the text does not have."""

    @property
    def can_slide(self) -> bool:
        """Whether a text can be longer than the context."""

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text. special: whether the name of a special token is that token."""

    def encode_more(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text that continues another one."""

    def score(self, ids: list[int], *, start: int = 0, top: int) -> Iterator[Step]:
        """A Step for every token from start on."""

    def generate(self, ids: list[int], sampling: Sampling, limits: Limits, *, top: int) -> Drawing:
        """Tokens that are drawn after ids."""

    def branches(
        self, ids: list[int], sampling: Sampling, limits: Limits, n: int, *, top: int
    ) -> list[Drawing]:
        """Several continuations of ids, each with the next seed."""

    def changed(self, interventions: Sequence[Intervention]) -> LanguageModel:
        """The same model that draws with these changes inside its network."""

    @property
    def about_chat(self) -> str:
        """How turns are marked if the model was not trained on a chat's; empty: it was."""

    def turn(self, ids: list[int], text: str, system: str) -> tuple[list[int], Sequence[str]]:
        """A conversation with a person's turn after it, and the strings that end the answer."""
