"""Where tokens come from: what the interface asks of a model. It knows no widget and no torch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

from gpt.settings import Sampling
from gpt.step import Step
from gpt.waterfall import LikelyPath, Waterfall


@dataclass(frozen=True)
class Status:
    """What a long request is doing."""

    message: str


@dataclass(frozen=True)
class Loaded:
    """A model is ready."""

    name: str
    device: str
    dtype: str
    n_params: int
    vocab_size: int
    block_size: int


@dataclass(frozen=True)
class Steps:
    """Tokens, of the prompt or drawn."""

    steps: list[Step]
    is_prompt: bool


@dataclass(frozen=True)
class Done:
    """The last event of a request that gave Steps."""

    finish_reason: str | None
    tokens: int
    seconds: float
    """Time of decoding, as the engine measured it."""


@dataclass(frozen=True)
class Paths:
    """The most probable continuations, best first."""

    paths: list[LikelyPath]


@dataclass(frozen=True)
class Tokens:
    """How a text is cut."""

    parts: list[bytes]


Event = Status | Loaded | Steps | Done | Waterfall | Paths | Tokens


class BackendError(Exception):
    """One sentence from outside: sanitise it before showing it."""


class EngineDiedError(BackendError):
    """The engine's process has ended."""


@dataclass(frozen=True)
class Completion:
    """What to go on from, and how."""

    ids: list[int]
    text: str
    """Stands behind the ids; its tokens come back as Steps of the prompt."""
    sampling: Sampling
    max_new_tokens: int
    slide: bool = False
    chat: bool = False
    """The text is a turn of a conversation."""
    new_ids: int = 0
    """So many of the ids, the last ones, are new: their Steps come back with the prompt's."""


class Backend(Protocol):
    """What the interface asks of anything that can run a model."""

    def load(self, model: str) -> AsyncIterator[Event]:
        """Make a model ready, by name or directory. Raises BackendError."""

    def score(self, text: str) -> AsyncIterator[Event]:
        """A text that exists, as Steps. Raises BackendError."""

    def complete(self, request: Completion) -> AsyncIterator[Event]:
        """The prompt's new tokens, then drawn ones. Raises BackendError."""

    async def waterfall(self, ids: list[int], chosen: int, sampling: Sampling) -> Waterfall:
        """What settings do to the token behind ids, where chosen stands. Raises BackendError."""

    async def paths(self, ids: list[int]) -> list[LikelyPath]:
        """The most probable continuations of ids. Raises BackendError."""

    async def tokens(self, text: str) -> list[bytes]:
        """A text as the model cuts it. Raises BackendError."""

    def cancel(self) -> None:
        """End the running completion after its next token."""

    def close(self) -> None:
        """Nothing more is wanted."""


Connection = tuple[Backend, AsyncIterator[Event]]
"""A backend and the answers to its load request."""
Connect = Callable[[str], Connection]
"""Starts a backend and asks it for a model."""
