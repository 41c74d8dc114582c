"""Answers to "what happens inside", as plain values. Imports no torch.

Log-probabilities and entropies are in nats. Layers and heads are counted from 1; layer 0 is the
embedding. Positions are indices of tokens in the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gpt.record import Record


@dataclass(frozen=True)
class Token(Record):
    """A token that an answer mentions."""

    token_id: int
    bytes: bytes


@dataclass(frozen=True)
class LensGrid(Record):
    """What every layer would predict for every token: the logit lens over a whole text.

    Rows are layers, columns are the tokens that are predicted. See gpt/interpret/grid.py.
    """

    layers: tuple[int, ...]
    """The layer of each row."""
    is_middle: tuple[bool, ...]
    """Whether a row is the stream between attention and the MLP of its layer."""
    positions: tuple[int, ...]
    """Position of the token that a column predicts; the last one may be after the text."""
    ids: tuple[tuple[int, ...], ...]
    """(rows, columns): the most probable token."""
    logprobs: tuple[tuple[float, ...], ...]
    """(rows, columns): its log-probability."""
    chosen_logprobs: tuple[tuple[float | None, ...], ...]
    """(rows, columns): log-probability of the token in the text; None after its end."""
    entropies: tuple[tuple[float, ...], ...]
    """(rows, columns): entropy of the cell's distribution."""
    divergences: tuple[tuple[float, ...], ...]
    """(rows, columns): KL(last row ‖ this cell)."""
    tokens: tuple[Token, ...]
    """Each token that `ids` mentions, once."""


@dataclass(frozen=True)
class LensCell(Record):
    """The most probable tokens of one cell of the grid, best first."""

    layer: int
    is_middle: bool
    position: int
    tokens: tuple[Token, ...]
    logprobs: tuple[float, ...]


@dataclass(frozen=True)
class HeadScores(Record):
    """How much a head looks like one of four well-known kinds, each from 0 to 1.

    Means over the queries of the text; None if no query counts. See gpt/interpret/heads.py.
    """

    layer: int
    head: int
    previous: float | None
    """Weight of the token right before."""
    first: float | None
    """Weight of the first token of the context."""
    duplicate: float | None
    """Weight of earlier tokens with the query's own id."""
    induction: float | None
    """Weight of tokens that follow an earlier token with the query's own id."""


@dataclass(frozen=True)
class Heads(Record):
    """Where all heads look from one position, and what kinds of heads they seem to be."""

    position: int
    """Position of the query: the last token of the text."""
    start: int
    """Position of the first token of the context."""
    weights: tuple[tuple[tuple[float, ...], ...], ...]
    """(layers, heads, tokens of the context): attention weights, which sum to 1."""
    scores: tuple[HeadScores, ...]
    """Of every head, layer by layer; empty if they were not asked for."""
    repeated: int
    """Number of queries with an earlier token of the same id: what duplicate and induction are
    means over, except that induction needs a token between."""


@dataclass(frozen=True)
class WorkRow(Record):
    """One key of the calculation of a head."""

    position: int
    token: Token
    key: tuple[float, ...]
    """The first components."""
    key_norm: float
    value: tuple[float, ...]
    """The first components."""
    value_norm: float
    dot: float
    """q · k."""
    score: float
    """q · k times the scale."""
    is_visible: bool
    """False: the mask makes the score −∞."""
    weight: float
    """softmax of the scores."""


@dataclass(frozen=True)
class Work(Record):
    """The whole calculation of one head at one position."""

    layer: int
    head: int
    key_head: int
    """The head of keys and values that it uses; several heads of queries may share one."""
    head_size: int
    scale: float
    """The number by which q · k is multiplied; 1 / √head_size in most models."""
    position: int
    """Position of the query."""
    is_rotated: bool
    """Whether q and k are turned by the angles of their positions; shown are the turned ones."""
    has_norm: bool
    """Whether q and k go through a norm of their own before."""
    query: tuple[float, ...]
    """The first components."""
    query_norm: float
    rows: tuple[WorkRow, ...]
    """One for each token of the context."""
    mixed: tuple[float, ...]
    """First components of the sum of the values, each times its weight."""
    mixed_norm: float
    added: tuple[float, ...]
    """First components of what the head adds to the residual stream: `mixed` times its columns of
    the projection."""
    added_norm: float


PartName = Literal[
    "token", "position", "head", "attention bias", "mlp", "norm bias", "final norm bias"
]
PART_NAMES: dict[PartName, str] = {
    "token": "token embedding",
    "position": "position embedding",
    "mlp": "MLP",
}
"""Part → what a person calls it, if not by its own name."""


@dataclass(frozen=True)
class LogitPart(Record):
    """What one part of the network contributes to a logit, or to a difference of two."""

    name: PartName
    layer: int
    """0 for what is not in a block."""
    head: int | None
    value: float


@dataclass(frozen=True)
class LogitParts(Record):
    """A logit, or a difference of two, as a sum over the parts of the network."""

    token_id: int
    versus_id: int | None
    """The token whose logit is subtracted; None: none is."""
    parts: tuple[LogitPart, ...]
    total: float
    """The sum of all parts."""
    logit: float
    """What the network itself computes; equal to the sum but for rounding."""


@dataclass(frozen=True)
class StreamNorms(Record):
    """Euclidean norms of the residual stream."""

    start: int
    """Position of the first token of the context."""
    norms: tuple[tuple[float, ...], ...]
    """(n_layer + 1, tokens of the context); the first row is the embedding."""


@dataclass(frozen=True)
class Neighbour(Record):
    """A row of a matrix that is near a vector."""

    token: Token
    """Of a matrix of positions: the position as `token_id`, without bytes."""
    cosine: float
    dot: float


@dataclass(frozen=True)
class Neighbours(Record):
    """The nearest rows of a matrix, by two measures, best first."""

    matrix: Literal["embedding", "output", "positions"]
    by_cosine: tuple[Neighbour, ...]
    by_dot: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Place(Record):
    """A token on a plane."""

    token: Token
    x: float
    y: float


@dataclass(frozen=True)
class Plane(Record):
    """Tokens as points on the plane of their two principal components."""

    matrix: Literal["embedding", "output"]
    places: tuple[Place, ...]
    explained: tuple[float, ...]
    """Share of the variance of these tokens along x and along y."""
