"""The first line of each table about the inside of a network: what is asked, and how to read it.

It names the end of the text and the tokens asked about, the unit, and the order of the rows where
the rows do not show it.
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
    changed: str = ""
    """What is changed inside the network, in words."""

    def name(self, position: int) -> str:
        """The token at a position, or what comes after the text."""
        return named(self.tokens[position]) if position < len(self.tokens) else "(next)"

    @property
    def end(self) -> str:
        """The last characters of the text, in quotes."""
        text = b"".join(token.bytes for token in self.tokens).decode("utf-8", "backslashreplace")
        return f'"{"…" * (len(text) > _END)}{one_line(text[-_END:])}"'

    @property
    def logit(self) -> str:
        """The logit asked about, or the difference of two."""
        return "the logit of " + " minus that of ".join(map(_quoted, self.asked))


def named(token: Token) -> str:
    """A token as a person reads it."""
    if not token.bytes:
        return f"<{token.token_id}>"
    return one_line(token.bytes.decode("utf-8", "backslashreplace")).replace(" ", "·")


def row_name(layer: int, *, is_middle: bool, is_last: bool = False) -> str:
    """A row of a table of layers, by its name on the screen."""
    if layer == 0:
        return "embedding"
    if is_middle:
        return f"layer {layer} after attention"
    return "output" if is_last else f"layer {layer}"


def _quoted(token: Token) -> str:
    return f'"{named(token)}"'


def lens(found: LensGrid, text: Text) -> str:
    """What each layer predicts after each token."""
    return (
        f"{text.end}: what each layer expects in the place of each token, and how "
        "probable it finds that; from the embedding to the output"
    )


def cell(cell: LensCell, text: Text) -> str:
    """What one layer predicts."""
    is_last = cell.layer == text.n_layer
    row = "the " * (cell.layer == 0) + row_name(
        cell.layer, is_middle=cell.is_middle, is_last=is_last
    )
    return f"after {text.end}: what {row} expects as token {cell.position}, the most probable first"


def heads(found: Heads, text: Text) -> str:
    """Where all heads look."""
    return (
        f"after {text.end}: where each head looks from token {found.position} "
        f'"{text.name(found.position)}": the token with the largest weight, and that weight as a '
        "share of the head's attention; then scores from 0 to 1"
    )


def work(found: Work, text: Text) -> str:
    """The calculation of a head."""
    return (
        f"after {text.end}: what head {found.head} of layer {found.layer} (keys and values of head "
        f'{found.key_head}) calculates at token {found.position} "{text.name(found.position)}"; '
        "a row for each token of the context, from the first one on"
    )


def parts(found: LogitParts, text: Text) -> str:
    """The parts of a logit."""
    return (
        f"after {text.end}: what each part of the network adds to {text.logit}, in nats, the "
        "largest first"
    )


def mattered(found: Mattered, text: Text) -> str:
    """Which earlier tokens mattered."""
    return (
        f"after {text.end}: what each token does to log p of {_quoted(text.asked[0])}, in bits; + "
        "makes it more probable"
    )


def effect(found: Effect, text: Text) -> str:
    """What a change does to each token."""
    return (
        f"{text.end}: how far the change moves the prediction of each token, as "
        "KL(original ‖ changed) in bits, and its probability before and after"
    )


def patch(found: PatchGrid, text: Text) -> str:
    """What each activation of another text does."""
    unit = "in nats" if found.share is None else "from 0 (as in this text) to 1 (as in the other)"
    return (
        f"after {text.end}: {text.logit} if one activation is taken from the other text, {unit}; "
        "from the embedding to the last layer"
    )


def steering(found: Steering, text: Text) -> str:
    """How large a direction is."""
    return (
        f"{text.end}: lengths (Euclidean norms) of the direction and of the stream that "
        "it is added to"
    )


def norms(found: StreamNorms, text: Text) -> str:
    """The norms of the residual stream."""
    return (
        f"{text.end}: length (Euclidean norm) of the residual stream at each token, "
        "from the embedding to the last layer"
    )


def neighbours(found: Neighbours, text: Text) -> str:
    """Tokens near a sum of tokens."""
    less = "".join(f" minus {_quoted(token)}" for token in text.minus)
    return (
        f"{found.matrix}: the tokens nearest to {text.end}{less}, first by cosine, then by dot "
        "product"
    )


def plane(found: Plane, text: Text) -> str:
    """Tokens on two axes."""
    shares = " and ".join(f"{100 * share:.1f} %" for share in found.explained)
    return (
        f"{found.matrix}: the places (x and y) of the tokens of {text.end} on two axes, which have "
        f"{shares} of the variance"
    )


def architecture(found: Architecture, text: Text) -> str:
    """The weights."""
    return "weights in the order of the network: number of parameters, shape and name"
