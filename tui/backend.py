"""What the interface asks of a model, and the answers; no widgets, no torch.

Every request may raise BackendError.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from gpt.interpret.answers import Layer, LikelyPath, Waterfall
from gpt.settings import Sampling
from gpt.step import Step


class Status(NamedTuple):
    """What a long request is doing."""

    message: str
    is_notice: bool = False
    """The person must know it later as well: a GPU was lost."""


class Loaded(NamedTuple):
    """A model is ready."""

    name: str
    device: str
    dtype: str
    n_params: int
    vocab_size: int
    block_size: int
    compiled: bool = False
    """Whether machine code that was built for this model computes the tokens."""
    notice: str = ""
    """Why it does not run on the device that was asked for."""
    divergence: Mapping[str, float | None] = MappingProxyType({})
    """Dtype → what it costs this model: mean KL(float32 ‖ dtype) in nats a token, if known."""


class Steps(NamedTuple):
    """Tokens of the prompt, or sampled ones."""

    steps: list[Step]
    is_prompt: bool


class Done(NamedTuple):
    """The last event of a request that has Steps."""

    finish_reason: str | None
    tokens: int
    seconds: float
    """Time of decoding, measured by the engine."""
    how: Mapping[str, Any] = MappingProxyType({})
    """The fields `device`, `dtype` and `compiled` of Loaded, as they were for this run."""


class Paths(NamedTuple):
    """The most probable continuations, best first."""

    paths: list[LikelyPath]


class Tokens(NamedTuple):
    """A text as tokens."""

    ids: tuple[int, ...]
    parts: list[bytes]


class Layers(NamedTuple):
    """The guess after the embedding and after each layer (logit lens)."""

    layers: list[Layer]


class Attribution(NamedTuple):
    """Influence of each earlier token on a token, in nats; None for those not measured."""

    nats: list[float | None]


class Options(NamedTuple):
    """The Steps of each of several continuations."""

    options: list[list[Step]]


class Compared(NamedTuple):
    """Two models have read the same text."""

    divergence: list[float] | None
    """KL(model ‖ second model) in nats for each token except the first; None if their
    vocabularies differ."""


class Unloaded:
    """The second model is gone."""


Event = (
    Status
    | Loaded
    | Steps
    | Done
    | Waterfall
    | Paths
    | Tokens
    | Layers
    | Attribution
    | Options
    | Compared
    | Unloaded
)


class BackendError(Exception):
    """One sentence from outside: sanitize it before you show it."""


class CancelledAnswerError(BackendError):
    """The person did not want to wait for the answer."""


class EngineDiedError(BackendError):
    """The engine's process has ended."""


class Completion(NamedTuple):
    """What to continue from, and how."""

    ids: list[int]
    text: str
    """Comes after the ids; its tokens come back as Steps of the prompt."""
    sampling: Sampling
    max_new_tokens: int
    slide: bool = False
    chat: bool = False
    """The text is a turn of a conversation."""
    new_ids: int = 0
    """Number of ids at the end that are new: their Steps come back with the prompt's."""
    second: bool = False
    """The second model continues the text."""
    system: str = ""
    """What the model of a chat is told before the first message."""


class Backend(Protocol):
    """Anything that can run a model."""

    def load(self, model: str, *, second: bool = False) -> AsyncIterator[Event]:
        """Load a model, by name or directory.

        second: as the second model, until `unload`; the first one stays.
        """

    async def unload(self) -> None:
        """Drop the second model."""

    def compare(self, ids: list[int]) -> AsyncIterator[Event]:
        """The second model's Steps of the text of these ids, then Compared."""

    def score(self, text: str) -> AsyncIterator[Event]:
        """The Steps of an existing text."""

    def complete(self, request: Completion) -> AsyncIterator[Event]:
        """The Steps of the prompt's new tokens, then of sampled ones."""

    async def waterfall(self, ids: list[int], chosen: int, sampling: Sampling) -> Waterfall:
        """What the settings do to the distribution after ids; chosen is the token there."""

    async def paths(self, ids: list[int]) -> list[LikelyPath]:
        """The most probable continuations of ids."""

    async def layers(self, ids: list[int], chosen: int) -> list[Layer]:
        """Each layer's guess after ids; chosen is the token there."""

    async def attribution(self, ids: list[int], chosen: int) -> list[float | None]:
        """Influence of each of ids on chosen, the token after them, in nats."""

    async def options(self, ids: list[int], options: list[str]) -> list[list[Step]]:
        """The Steps of each of these texts after ids."""

    async def tokens(self, text: str) -> Tokens:
        """A text as the model's tokens."""

    def cancel(self) -> None:
        """Stop all requests except loading as soon as possible."""

    def close(self) -> None:
        """End the backend."""


Connection = tuple[Backend, AsyncIterator[Event]]
"""A backend and the answers to its load request."""
Connect = Callable[[str], Connection]
"""Starts a backend and asks it for a model."""
