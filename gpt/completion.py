"""What the commands that draw texts share: their options, and the text as it comes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gpt import word_ids
from gpt.command_line import Parser
from gpt.settings import Sampling
from gpt.step import Step

if TYPE_CHECKING:
    from gpt.context import Context


SETTINGS = {
    "temperature": ("X", "Divide the logits by X; 0 always takes the most probable token."),
    "top_k": ("N", "Keep only the N most probable tokens; 0 keeps all."),
    "top_p": ("0-1", "Keep the most probable tokens, as few as reach this probability together."),
    "min_p": (
        "0-1",
        "Keep tokens with at least this share of the most probable token's probability.",
    ),
    "repetition_penalty": ("X", "Above 1: make tokens that are already in the text less probable."),
    "seed": ("N", "Random seed; the same seed repeats the same text."),
}
"""Metavar and help of the option for each number in `Sampling`."""


def add_length(parser: Parser) -> None:
    """The options that say where the text ends."""
    group = parser.add_argument_group("length")
    group.add_argument(
        "-n",
        "--max-new-tokens",
        type=int,
        default=200,
        metavar="N",
        help="Draw at most N tokens. (default: %(default)s)",
    )
    group.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="End before TEXT. May be repeated. (default: none)",
    )
    group.add_argument(
        "--slide",
        action="store_true",
        help="Continue past the model's block size, with a window over the end of the text. "
        "(default: stop there)",
    )


def add_sampling(parser: Parser) -> None:
    """The options that say how a token is chosen: one for each setting of `Sampling`."""
    group = parser.add_argument_group("sampling")
    defaults = Sampling()
    for name, (metavar, text) in SETTINGS.items():
        default = getattr(defaults, name)
        group.add_argument(
            "--" + name.replace("_", "-"),
            type=type(default),
            default=default,
            metavar=metavar,
            help=f"{text} (default: %(default)s)",
        )
    group.add_argument(
        "--ban",
        action="append",
        default=[],
        metavar="WORD",
        help="Never write WORD; #12 is the token with id 12. May be repeated. (default: none)",
    )
    group.add_argument(
        "--boost",
        action="append",
        default=[],
        metavar="WORD:NATS",
        help="Add NATS to the logits of WORD's tokens. May be repeated. (default: none)",
    )


def sampling_of(args: argparse.Namespace) -> Callable[[Context], Sampling]:
    """The sampling that the options ask for, checked; with the ids of words for a model."""
    numbers = Sampling(**{name: getattr(args, name) for name in SETTINGS})
    boosts = list(map(word_ids.split_boost, args.boost))

    def with_words(context: Context) -> Sampling:
        known = context.tokenizer.encode_more, context.config.vocab_size
        return replace(
            numbers,
            banned=tuple(ids for word in args.ban for ids in word_ids.sequences(word, *known)),
            boosted=tuple(
                (ids, nats) for word, nats in boosts for ids in word_ids.sequences(word, *known)
            ),
        )

    return with_words


def texts(steps: Iterable[Step], *, drops_blank: bool = False) -> Iterator[str]:
    """The text of each step, then U+FFFD for a character that was not completed.

    drops_blank: leave out a blank at the start (see Tokenizer.drops_blank).
    """
    from gpt.tokenizer import StreamDecoder

    decoder = StreamDecoder(drops_blank=drops_blank)
    for step in steps:
        yield decoder.feed(step.bytes)
    yield decoder.feed(b"", final=True)


def before_stop(texts: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
    """The text up to the first stop string. What may be the start of one waits for more text."""
    held = ""
    for text in texts:
        held += text
        if found := [held.index(stop) for stop in stops if stop in held]:
            yield held[: min(found)]
            return
        keep = max((_overlap(held, stop) for stop in stops), default=0)
        yield held[: len(held) - keep]
        held = held[len(held) - keep :]
    yield held


def _overlap(text: str, stop: str) -> int:
    """Number of characters at the end of text with which stop begins; the longest such end."""
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((n for n in sizes if text.endswith(stop[:n])), 0)
