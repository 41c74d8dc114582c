"""What the interface asks of a model, and the answers; no widgets, no torch.

Every request may raise BackendError.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from gpt.capabilities import Capabilities
from gpt.interpret.answers import Layer, LikelyPath, Waterfall
from gpt.settings import Sampling
from gpt.step import Step
from gpt.word_ids import BYTES

if TYPE_CHECKING:
    from gpt.interventions import Intervention
    from gpt.record import Record


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
    """0: its server does not say."""
    vocab_size: int
    """0: its server does not say."""
    block_size: int
    """0: its server does not say."""
    compiled: bool = False
    """Whether machine code that was built for this model computes the tokens."""
    notice: str = ""
    """Why it does not run on the device that was asked for."""
    divergence: Mapping[str, float | None] = MappingProxyType({})
    """Dtype → what it costs this model: mean KL(float32 ‖ dtype) in nats a token, if known."""
    capabilities: Capabilities = Capabilities()
    """What can be asked of it."""
    special_tokens: Mapping[str, int] = MappingProxyType({})
    """Name → id of the tokens that no text becomes."""
    config: Mapping[str, Any] = MappingProxyType({})
    """Fields of its ModelConfig; a server knows only some of them."""

    @property
    def has_words(self) -> bool:
        """Whether its tokens may be words with the space before them. A server may not say how
        many tokens it knows, but it runs no model of single bytes."""
        return not self.vocab_size or self.vocab_size > BYTES


class Steps(NamedTuple):
    """Tokens of the prompt, or sampled ones."""

    steps: list[Step]
    is_prompt: bool
    branch: int = 0
    """Which of the request's branches they belong to; of the prompt, all."""


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


class Looked(NamedTuple):
    """An answer about the inside of the network; `look` makes a record of it."""

    values: Mapping[str, Any]


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
    | Looked
    | Unloaded
)
Found = TypeVar("Found", bound="Record | Waterfall")
Tell = Callable[[str], object]
"""Is told what a long request is doing."""


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
    segments: tuple[str | int, ...] = ()
    """Texts, and ids of special tokens between them; they come after the text."""
    changes: tuple[Intervention, ...] = ()
    """What is changed inside the network."""
    branches: int = 1
    """Number of continuations; each has the next seed."""


class Backend(Protocol):
    """Anything that can run a model."""

    def load(
        self, model: str, *, second: bool = False, probe: bool = False
    ) -> AsyncIterator[Event]:
        """Load a model, by name or directory.

        second: as the second model, until `unload`; the first one stays. probe: measure again what
        its server can answer.
        """

    def can_load(self, model: str) -> bool:
        """Whether this backend can load the model; another one needs another backend."""

    async def unload(self) -> None:
        """Drop the second model."""

    def compare(self, ids: list[int]) -> AsyncIterator[Event]:
        """The second model's Steps of the text of these ids, then Compared."""

    def score(self, text: str) -> AsyncIterator[Event]:
        """The Steps of an existing text."""

    def complete(self, request: Completion) -> AsyncIterator[Event]:
        """The Steps of the prompt's new tokens, then of sampled ones.

        Those of several branches alternate, or come after one another; the last Step of each has a
        finish_reason.
        """

    def stop(self, branch: int) -> None:
        """Stop one branch of the running completion as soon as possible; the others go on."""

    async def waterfall(
        self,
        ids: list[int],
        chosen: int,
        sampling: Sampling,
        changes: tuple[Intervention, ...] = (),
        also: Sequence[int] = (),
    ) -> Waterfall:
        """What changes inside the network, then the settings, do to the distribution after ids.

        chosen: the token there. also: other tokens that must have a row.
        """

    async def paths(
        self, ids: list[int], changes: tuple[Intervention, ...] = ()
    ) -> list[LikelyPath]:
        """The most probable continuations of ids. changes: as for `layers`."""

    async def layers(
        self, ids: list[int], chosen: int, changes: tuple[Intervention, ...] = ()
    ) -> list[Layer]:
        """Each layer's guess after ids; chosen is the token there.

        changes: what is changed inside the network.
        """

    async def attribution(
        self, ids: list[int], chosen: int, changes: tuple[Intervention, ...] = ()
    ) -> list[float | None]:
        """Influence of each of ids on chosen, the token after them, in nats. changes: as above."""

    async def options(
        self, ids: list[int], options: list[str], changes: tuple[Intervention, ...] = ()
    ) -> list[list[Step]]:
        """The Steps of each of these texts after ids. changes: as above."""

    async def tokens(self, text: str) -> Tokens:
        """A text as the model's tokens."""

    async def look(self, op: str, kind: type[Found], tell: Tell, **fields: Any) -> Found:
        """Send a request about the inside of the network; its answer as a record of this kind.

        op, fields: the request, as docs/engine.md describes it. If the task that waits is
        cancelled, the engine's work for it is cancelled, too.
        """

    def cancel(self) -> None:
        """Stop all requests except loading as soon as possible."""

    def close(self) -> None:
        """End the backend."""


Connection = tuple[Backend, AsyncIterator[Event]]
"""A backend and the answers to its load request."""
Connect = Callable[[str], Connection]
"""Starts a backend and asks it for a model."""
