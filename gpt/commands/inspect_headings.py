"""The first line of each table about the inside of a network: what is asked, and how to read it.

It names the end of the text, the tokens asked about, the unit, and the direction of reading.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpt.interpret.architecture import Architecture
from gpt.interpret.effects import Effect, Mattered, PatchGrid, Steering
from gpt.interpret.looks import (
    Heads,
    LensCell,
    LensGrid,
    LogitParts,
    Neighbours,
    Plane,
    StreamNorms,
    Token,
    Work,
)
from gpt.sanitize import one_line

_END = 24
"""Characters of the text's end that a heading shows."""


@dataclass(frozen=True)
class Text:
    """The text that an answer is about, and what is asked about it."""

    tokens: tuple[Token, ...]
    n_layer: int = 0
    asked: tuple[Token, ...] = ()
    """The token that the answer is about, and the one that it is compared with, if there are."""
    minus: tuple[Token, ...] = ()
    """Tokens whose vectors are subtracted."""

    def name(self, position: int) -> str:
        """The token at a position, or what comes after the text."""
        return named(self.tokens[position]) if position < len(self.tokens) else "(next)"

    @property
    def end(self) -> str:
        """The last characters of the text, in quotes."""
        text = b"".join(token.bytes for token in self.tokens).decode("utf-8", "backslashreplace")
        return f'"{"…" * (len(text) > _END)}{_plain(text[-_END:])}"'

    @property
    def logit(self) -> str:
        """The logit asked about, or the difference of two."""
        return "the logit of " + " minus that of ".join(map(_quoted, self.asked))


def named(token: Token) -> str:
    """A token as a person reads it."""
    if not token.bytes:
        return f"<{token.token_id}>"
    return _plain(token.bytes.decode("utf-8", "backslashreplace")).replace(" ", "·")


def row_name(layer: int, *, is_middle: bool, is_last: bool = False) -> str:
    """A row of a table of layers, by its name on the screen."""
    if layer == 0:
        return "embedding"
    if is_middle:
        return f"layer {layer} after attention"
    return "output" if is_last else f"layer {layer}"


def _plain(text: str) -> str:
    return repr(one_line(text))[1:-1]


def _quoted(token: Token) -> str:
    return f'"{named(token)}"'


def lens(found: LensGrid, text: Text) -> str:
    """What each layer predicts after each token."""
    return (
        f"to the end of {text.end}: the best token of each layer with its probability in %, from "
        "the embedding down to the output; a column predicts the token above it"
    )


def cell(cell: LensCell, text: Text) -> str:
    """What one layer predicts."""
    is_last = cell.layer == text.n_layer
    row = row_name(cell.layer, is_middle=cell.is_middle, is_last=is_last)
    return (
        f"after {text.end}: {row} predicts for token {cell.position}, in % of probability, the "
        "most probable first"
    )


def heads(found: Heads, text: Text) -> str:
    """Where all heads look."""
    return (
        f"after {text.end}: where each head looks from token {found.position} "
        f'"{text.name(found.position)}", its strongest token with the weight in % of its '
        "attention, layer 1 first; scores from 0 to 1"
    )


def work(found: Work, text: Text) -> str:
    """The calculation of a head."""
    return (
        f"after {text.end}: layer {found.layer}, head {found.head} (keys and values of head "
        f'{found.key_head}), at token {found.position} "{text.name(found.position)}"; numbers '
        "without a unit, the weights sum to 1, the first token of the context on top"
    )


def parts(found: LogitParts, text: Text) -> str:
    """The parts of a logit."""
    return f"after {text.end}: the parts of {text.logit}, in nats, the largest first"


def mattered(found: Mattered, text: Text) -> str:
    """Which earlier tokens mattered."""
    return (
        f"after {text.end}: what each token did for log p of {_quoted(text.asked[0])}, in nats, "
        "+ made it more probable; the first token of the text on top"
    )


def effect(found: Effect, text: Text) -> str:
    """What a change does to each token."""
    return (
        f"to the end of {text.end}: KL(original ‖ changed) in nats and the probability of each "
        "token in %, before and after the change; the first token of the text on top"
    )


def patch(found: PatchGrid, text: Text) -> str:
    """What each activation of another text does."""
    unit = "in nats" if found.share is None else "as a share of the way: 0 as here, 1 as there"
    return (
        f"after {text.end}: {text.logit} if one activation is that of the other text, {unit}; "
        "from the embedding down to the last layer"
    )


def steering(found: Steering, text: Text) -> str:
    """How large a direction is."""
    return (
        f"in {text.end}: Euclidean norms, without a unit, of the direction and of the stream that "
        "it is added to"
    )


def norms(found: StreamNorms, text: Text) -> str:
    """The norms of the residual stream."""
    return (
        f"to the end of {text.end}: Euclidean norms, without a unit, of the residual stream at "
        "each token, from the embedding down to the last layer"
    )


def neighbours(found: Neighbours, text: Text) -> str:
    """Tokens near a sum of tokens."""
    less = "".join(f" minus {_quoted(token)}" for token in text.minus)
    return (
        f"{found.matrix}: the tokens nearest to {text.end}{less}, by cosine, then by dot product, "
        "without a unit, the nearest first"
    )


def plane(found: Plane, text: Text) -> str:
    """Tokens on two axes."""
    shares = " and ".join(f"{100 * share:.1f} %" for share in found.explained)
    return (
        f"{found.matrix}: x and y, without a unit, of the tokens of {text.end} in their order; "
        f"the axes have {shares} of the variance"
    )


def architecture(found: Architecture, text: Text) -> str:
    """The weights."""
    return "weights: number of parameters, shape and name, in the order of the network"
