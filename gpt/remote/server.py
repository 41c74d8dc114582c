"""What every kind of server is asked, and what it says of one token."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from gpt.progress import Watcher
from gpt.remote import fields
from gpt.settings import Sampling
from gpt.step import FinishReason

Top = tuple[tuple[int, float], ...]
"""The most probable tokens and their log-probabilities in nats, best first."""
Message = Mapping[str, str]
"""`role` (system, user or assistant) and `content`."""


class Piece(NamedTuple):
    """What a token adds to a text."""

    bytes: bytes
    name: str = ""
    """Name of a special token, which has no bytes."""


class Reading(NamedTuple):
    """One token and what a server says of its distribution."""

    token_id: int
    """-1: no token follows, and finish says why."""
    logprob: float | None = None
    """Log-probability in nats; None if the server does not say."""
    rank: int | None = None
    """None if the server does not say and the token is not in top."""
    top: Top = ()
    finish: FinishReason | None = None
    """Why the server ends the text here."""


class ModelFacts(NamedTuple):
    """What a server says of a model; 0: it does not say."""

    name: str
    """The server's name for it."""
    vocab_size: int = 0
    block_size: int = 0
    """Tokens in the longest context."""
    n_params: int = 0


class Server(Protocol):
    """A model at a server. Every list of ids is a whole text, from its first token on."""

    model: ModelFacts
    sends: frozenset[str]
    """Names of the sampling settings that are sent to it."""
    reads_names: bool
    """Whether tokenize takes the name of a special token for that token."""
    order: tuple[str, ...] | None
    """Order in which it applies the stages; empty: as it is asked to; None: it is not known."""

    def tokenize(self, text: str, *, is_start: bool) -> list[int]:
        """Ids of a text. is_start: with the token in front that begins a text, if there is one."""

    def pieces(self, ids: Sequence[int]) -> dict[int, Piece]:
        """The piece of each of these tokens."""

    def draw(
        self, ids: Sequence[int], sampling: Sampling, n: int, top: int, watcher: Watcher
    ) -> Generator[Reading, None, None]:
        """At most n tokens after ids as the server draws them; a stream that ends when it is
        closed. What is banned or boosted are single tokens (gpt/remote/words.py has the others).
        Raises RequestCancelledError."""

    def read(self, ids: Sequence[int], start: int, top: int, watcher: Watcher) -> Iterator[Reading]:
        """The tokens ids[start:]; start is at least 1. Raises RequestCancelledError."""

    def following(self, texts: Sequence[Sequence[int]], top: int, watcher: Watcher) -> list[Top]:
        """The distribution after each of these texts. Raises RequestCancelledError."""

    def apply_template(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation up to the beginning of the model's turn."""


def best_first(pairs: Sequence[tuple[int, float]], top: int) -> Top:
    """The `top` most probable of some tokens, each once; among equals the lowest id first."""
    return tuple(sorted(dict(pairs).items(), key=lambda pair: (-pair[1], pair[0]))[:top])


def candidates(ids: list[Any], logprobs: list[Any], top: int) -> Top:
    """The `top` best candidates of a position as a server sent them, checked, without those that
    have no finite log-probability."""
    ids = fields.ids(ids)
    if fields.are_in_order(logprobs) and len(set(ids)) == len(ids):
        return tuple(zip(ids, logprobs, strict=True))[:top]
    pairs = zip(ids, logprobs, strict=True)
    return best_first([(i, float(value)) for i, value in pairs if fields.is_logprob(value)], top)


def rank_in(top: Top, token_id: int) -> int | None:
    """The rank of a token among the most probable ones; None if it is not one of them."""
    logprob = dict(top).get(token_id)
    if logprob is None:
        return None
    return 1 + next(n for n, (_, other) in enumerate(top) if other == logprob)
