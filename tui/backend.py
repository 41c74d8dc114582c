"""Where tokens come from: what the interface asks of a model. It knows no widget and no torch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from gpt.inside import Layer
from gpt.settings import Sampling
from gpt.step import Step
from gpt.waterfall import LikelyPath, Waterfall


@dataclass(frozen=True)
class Status:
    """What a long request is doing."""

    message: str
    is_notice: bool = False
    """It says what a person must know later as well: a GPU that was lost."""


@dataclass(frozen=True)
class Loaded:
    """A model is ready."""

    name: str
    device: str
    dtype: str
    n_params: int
    vocab_size: int
    block_size: int
    compiled: bool = False
    """Whether machine code that was built for it draws the tokens."""
    notice: str = ""
    """Why it does not run where it should."""


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
    how: Mapping[str, Any] = field(default_factory=dict)
    """What Loaded says of `device`, `dtype` and `compiled`, as it was for this run."""


@dataclass(frozen=True)
class Paths:
    """The most probable continuations, best first."""

    paths: list[LikelyPath]


@dataclass(frozen=True)
class Tokens:
    """How a text is cut."""

    ids: tuple[int, ...]
    parts: list[bytes]


@dataclass(frozen=True)
class Inside:
    """What the network holds behind the embedding and behind each layer."""

    layers: list[Layer]


@dataclass(frozen=True)
class LeftOut:
    """What a token owes to each of those before it, in nats; None where nobody has asked."""

    owed: list[float | None]


@dataclass(frozen=True)
class Options:
    """What the model thinks of each of several continuations."""

    options: list[list[Step]]


@dataclass(frozen=True)
class Compared:
    """Two models have read the same text."""

    divergence: list[float] | None
    """KL(model ‖ the one beside it) in nats for each token but the first; None where their
    vocabularies are different."""


@dataclass(frozen=True)
class Unloaded:
    """No model stands beside the first one any more."""


Event = (
    Status
    | Loaded
    | Steps
    | Done
    | Waterfall
    | Paths
    | Tokens
    | Inside
    | LeftOut
    | Options
    | Compared
    | Unloaded
)


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
    beside: bool = False
    """By the model that stands beside the first one."""


class Backend(Protocol):
    """What the interface asks of anything that can run a model."""

    def load(self, model: str, *, beside: bool = False) -> AsyncIterator[Event]:
        """Make a model ready, by name or directory. Raises BackendError.

        beside: as a second one, until `unload`; the first one stays.
        """

    async def unload(self) -> None:
        """The second model is not needed any more. Raises BackendError."""

    def compare(self, ids: list[int]) -> AsyncIterator[Event]:
        """The second model's Steps of the text of these ids, then Compared. Raises BackendError."""

    def score(self, text: str) -> AsyncIterator[Event]:
        """A text that exists, as Steps. Raises BackendError."""

    def complete(self, request: Completion) -> AsyncIterator[Event]:
        """The prompt's new tokens, then drawn ones. Raises BackendError."""

    async def waterfall(self, ids: list[int], chosen: int, sampling: Sampling) -> Waterfall:
        """What settings do to the token behind ids, where chosen stands. Raises BackendError."""

    async def paths(self, ids: list[int]) -> list[LikelyPath]:
        """The most probable continuations of ids. Raises BackendError."""

    async def inside(self, ids: list[int], chosen: int) -> list[Layer]:
        """What each layer makes of ids, behind which chosen stands. Raises BackendError."""

    async def left_out(self, ids: list[int], chosen: int) -> list[float | None]:
        """What chosen owes to each of ids before it. Raises BackendError."""

    async def options(self, ids: list[int], options: list[str]) -> list[list[Step]]:
        """What the model thinks of each of these texts behind ids. Raises BackendError."""

    async def tokens(self, text: str) -> Tokens:
        """A text as the model cuts it. Raises BackendError."""

    def cancel(self) -> None:
        """End what runs, except loading, as soon as that is possible."""

    def close(self) -> None:
        """Nothing more is wanted."""


Connection = tuple[Backend, AsyncIterator[Event]]
"""A backend and the answers to its load request."""
Connect = Callable[[str], Connection]
"""Starts a backend and asks it for a model."""
