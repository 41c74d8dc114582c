"""Answers to "what if this were different inside", as plain values. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from gpt.record import Record

Nats = tuple[float | None, ...]
"""A number of nats for each token of a text; None where there is none."""
_CLOSE = 0.1
"""Nats; two differences of logits that are closer are nearly the same."""


@dataclass(frozen=True)
class Effect(Record):
    """What interventions do to the distribution of each token of a text."""

    divergence: Nats
    """KL(original ‖ changed) of each token's distribution, in nats; None for the first token."""
    before: Nats
    """The token's log-probability in the unchanged network, in nats."""
    after: Nats
    """The same in the changed network."""


@dataclass(frozen=True)
class Steering(Record):
    """Euclidean norms of what a direction adds, and of the residual stream that it is added to."""

    direction_norm: float
    added_norm: float
    """The same times the strength."""
    stream_norm: float
    """Mean over the tokens of the text of the norm of the stream after the layer, unchanged."""
    last_norm: float
    """That norm at the last token."""


@dataclass(frozen=True)
class PatchGrid(Record):
    """How far the residual stream of another text, put in at one place, moves a difference."""

    token_id: int
    versus_id: int
    here: float
    """Logit of token_id − logit of versus_id after this text, unpatched."""
    there: float
    """The same after the other text."""
    layers: tuple[int, ...]
    """The rows; 0 is the embedding."""
    positions: tuple[int, ...]
    """The columns: positions in the text."""
    difference: tuple[tuple[float, ...], ...]
    """For each layer and position, the difference of the two logits with that one activation."""
    share: tuple[tuple[float, ...], ...] | None
    """(difference − here) / (there − here): 0 as in this text, 1 as in the other one. None if both
    texts give the same difference."""

    @property
    def is_close(self) -> bool:
        """Whether both texts give nearly the same difference, of which a share says little."""
        return self.share is not None and abs(self.here - self.there) < _CLOSE


@dataclass(frozen=True)
class Mattered(Record):
    """What each token of a text did for the log-probability of the token after it, in nats."""

    left_out: Nats
    """log p(token) − log p(token) without that token in the text."""
    cut: Nats
    """log p(token) − log p(token) if the last position does not attend to that token, in any
    layer. None for the last token itself."""
    gradient: Nats
    """Gradient of log p(token) with respect to that token's embedding, times the embedding."""


@dataclass(frozen=True)
class Directions(Record):
    """What each direction among some interventions adds, in their order."""

    directions: tuple[Steering, ...]
