"""What the commands that draw texts share: their options, and the text as it comes."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from gpt import word_ids
from gpt.command_line import Parser, number, wrong
from gpt.errors import UsageError, UserError
from gpt.settings import ORDER, Ids, Sampling, allowed, is_allowed, type_of
from gpt.step import Step
from gpt.typed_values import LARGEST

if TYPE_CHECKING:
    from gpt.commands.language_model import LanguageModel


_USUAL = {
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
_MORE = {
    "presence_penalty": ("NATS", "Subtract NATS from the logits of tokens that are in the text."),
    "frequency_penalty": ("NATS", "The same, once for each time that the token is in the text."),
    "penalty_window": ("N", "The three penalties see only the last N tokens; 0: all."),
    "dry_multiplier": ("X", "DRY: make it less probable that a repetition gets longer; 0: off."),
    "dry_base": ("X", "DRY: each more repeated token multiplies the penalty by X."),
    "dry_allowed_length": ("N", "DRY: the shortest repetition that counts."),
    "dry_window": ("N", "DRY sees only the last N tokens; 0: all."),
    "dynatemp_range": (
        "X",
        "Dynamic temperature: lower it by up to X where the model is certain, and raise it by up "
        "to X where it is not; 0: off.",
    ),
    "dynatemp_exponent": ("X", "Above 1: only great uncertainty raises the temperature."),
    "top_n_sigma": (
        "X",
        "Keep tokens whose logit is at most X standard deviations below the best one; 0 keeps all.",
    ),
    "typical_p": (
        "0-1",
        "Keep the tokens whose surprisal is nearest to the entropy, as few as reach this "
        "probability together.",
    ),
    "xtc_probability": ("0-1", "XTC: how often to remove all top choices but the last; 0: off."),
    "xtc_threshold": ("0-1", "XTC: the probability that makes a token a top choice."),
    "mirostat_tau": ("BITS", "Mirostat 2: the surprisal to aim at; 0: off."),
    "mirostat_eta": ("X", "Mirostat 2: how fast it adapts."),
}
_GROUPS = {"sampling": _USUAL, "more sampling": _MORE}
_SAMPLING = (
    "Temperature 1 and no other setting: the model's own probabilities.\n"
    "The interface and chat begin with --temperature 0.8 --top-p 0.95."
)
SETTINGS = _USUAL | _MORE
"""Metavar and help of the option for each number in `Sampling`."""


def add_length(parser: Parser) -> None:
    """The options that say where the text ends."""
    group = parser.add_argument_group("length")
    group.add_argument(
        "-n",
        "--max-new-tokens",
        type=setting("max_new_tokens"),
        default=200,
        metavar="N",
        help="Draw at most N tokens. (default: %(default)s)",
    )
    group.add_argument(
        "--stop",
        type=_stop,
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
    defaults = Sampling()
    groups = {
        title: parser.add_argument_group(title, _SAMPLING if options is _USUAL else None)
        for title, options in _GROUPS.items()
    }
    for title, options in _GROUPS.items():
        for name, (metavar, text) in options.items():
            default = getattr(defaults, name)
            groups[title].add_argument(
                option_of(name),
                type=setting(name),
                default=default,
                metavar=metavar,
                help=f"{text} (default: %(default)s)",
            )
    groups["more sampling"].add_argument(
        "--order",
        type=_order,
        default=(),
        metavar="A,B",
        help="Let these settings act in this order, and the rest as before. "
        f"(default: {', '.join(ORDER).replace('_', '-')})",
    )
    group = groups["sampling"]
    group.add_argument(
        "--ban",
        action="append",
        default=[],
        metavar="WORD",
        help='Never write WORD; "WORD" in quotes is exactly this text, #12 the token with id 12. '
        "May be repeated. (default: none)",
    )
    group.add_argument(
        "--boost",
        type=_boost,
        action="append",
        default=[],
        metavar="WORD:NATS",
        help="Add NATS to the logits of WORD's tokens. May be repeated. (default: none)",
    )


def option_of(name: str) -> str:
    """The option of the setting of that name."""
    return "--" + {"banned": "ban", "boosted": "boost"}.get(name, name).replace("_", "-")


def setting(name: str) -> Callable[[str], float]:
    """The type of an option for the setting of that name: a number in its range."""
    return number(type_of(name), allowed(name), lambda value: is_allowed(name, value))


def _stop(text: str) -> str:
    if not text:
        raise wrong(text, "a text of at least one character")
    return text


def _order(text: str) -> tuple[str, ...]:
    names = tuple(re.split(r"[\s,]+", text.replace("-", "_").strip()))
    try:
        return Sampling(order=names).order
    except UserError:
        known = ", ".join(ORDER).replace("_", "-")
        raise wrong(text, f"different settings out of: {known}") from None


def _boost(text: str) -> tuple[str, float]:
    try:
        return word_ids.split_boost(text)
    except UserError:
        raise wrong(text, word_ids.BOOST) from None


def sampling_of(args: argparse.Namespace) -> Callable[[LanguageModel], Sampling]:
    """The sampling that the options ask for, checked; with the ids of words for a model."""
    numbers = Sampling(**{name: getattr(args, name) for name in SETTINGS}, order=args.order)

    def with_words(model: LanguageModel) -> Sampling:
        known = model.encode_more, model.vocab_size or LARGEST
        return replace(
            numbers,
            banned=tuple(ids for word in args.ban for ids in _ids("--ban", word, *known)),
            boosted=tuple(
                (ids, nats) for word, nats in args.boost for ids in _ids("--boost", word, *known)
            ),
        )

    return with_words


def _ids(
    option: str, word: str, encode: Callable[[str], list[int]], vocab_size: int
) -> tuple[Ids, ...]:
    """The ids of a word of an option, which an error names."""
    try:
        return word_ids.sequences(word, encode, vocab_size)
    except UserError as error:
        raise UsageError(f"{option}: {error}") from None


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
