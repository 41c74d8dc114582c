"""A model at a server, as the commands for pipes ask it; without torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from gpt.commands.completion import option_of
from gpt.commands.language_model import Drawing
from gpt.errors import UserError
from gpt.interventions import Intervention
from gpt.limits import Limits
from gpt.remote.session import Session
from gpt.settings import Sampling
from gpt.step import Step


class ServerModel:
    """A session with a model at a server."""

    can_slide = False

    def __init__(self, session: Session) -> None:
        self._session = session
        self.vocab_size = session.model.vocab_size
        self.block_size = session.model.block_size

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    @property
    def drops_blank(self) -> bool:
        """Whether a text's first token begins with a blank that the text does not have."""
        return self._session.drops_blank

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text. special: refused; at a server a special token's name is always text."""
        _refuse_special(special)
        return self._session.encode(text)

    def encode_more(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text that continues another one."""
        _refuse_special(special)
        return self._session.encode_more(text)

    def score(self, ids: list[int], *, start: int = 0, top: int) -> Iterator[Step]:
        """A Step for every token from start on."""
        if self._session.capabilities.prompt == "none":
            raise UserError("this server gives no probabilities of a text that it did not write")
        return self._session.score(ids, start=start, top=top)

    def generate(self, ids: list[int], sampling: Sampling, limits: Limits, *, top: int) -> Drawing:
        """Tokens that are drawn after ids."""
        return self.branches(ids, sampling, limits, 1, top=top)[0]

    def branches(
        self, ids: list[int], sampling: Sampling, limits: Limits, n: int, *, top: int
    ) -> list[Drawing]:
        """Several continuations of ids, each with the next seed; drawn one after another."""
        if ignored := self._session.capabilities.ignored(sampling):
            names = ", ".join(map(option_of, ignored))
            print(f"note: the server ignores: {names}", file=sys.stderr)
        generate = self._session.generate
        return [generate(ids, sampling.branch(i), limits, top=top) for i in range(n)]

    def changed(self, interventions: Sequence[Intervention]) -> ServerModel:
        """Refused: a server does not show its insides."""
        raise UserError(
            "nothing can be changed inside a model at a server; leave out --mute, --mean, --cut "
            "and --towards, or use a model of this machine"
        )

    @property
    def about_chat(self) -> str:
        """Empty: a server that can chat has a template."""
        return ""

    def turn(self, ids: list[int], text: str, system: str) -> tuple[list[int], Sequence[str]]:
        """A conversation with a person's turn after it, and the strings that end the answer."""
        return self._session.turn(ids, text, system).ids, ()


def _refuse_special(special: bool) -> None:
    if special:
        raise UserError(
            "--special is for models of this machine; "
            "at a server the name of a special token is always text"
        )
