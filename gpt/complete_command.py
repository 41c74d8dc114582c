"""`python -m gpt complete`: continue a text."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from gpt import text_file, word_ids
from gpt.command_line import Parser
from gpt.sanitize import sanitize
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
EXAMPLES = {
    'python -m gpt complete "ROMEO:" --temperature 0.8 --seed 1': "Continue a line of Shakespeare",
    'echo "To be, or not to be" | python -m gpt complete -n 50': "Continue a text from a pipe",
    'python -m gpt complete "ROMEO:" --ban love --boost death:2': "Forbid a word, favour another",
}
"""Command → what it does."""


def add_arguments(parser: Parser) -> None:
    """The options of the command."""
    group = parser.add_argument_group("input and output")
    group.add_argument(
        "prompt", nargs="?", metavar="PROMPT", help="Text to continue. (default: all of stdin)"
    )
    group.add_argument(
        "--json",
        action="store_true",
        help="Print each token as a JSON object, a Step, on a line. (default: print the text)",
    )
    group.add_argument(
        "--top",
        type=int,
        default=10,
        metavar="N",
        help="Number of candidates in each Step of --json. (default: %(default)s)",
    )
    _add_length(parser)
    _add_sampling(parser)


def _add_length(parser: Parser) -> None:
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


def _add_sampling(parser: Parser) -> None:
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


def run(args: argparse.Namespace, load: Callable[[], Context]) -> None:
    """Draw a text and print it. load: loads the model; called after the arguments are checked."""
    sampling = Sampling(**{name: getattr(args, name) for name in SETTINGS})
    boosts = list(map(word_ids.split_boost, args.boost))
    prompt = args.prompt if args.prompt is not None else text_file.read_stdin()
    context = load()
    from gpt.generate import Limits, blocked, generate

    vocabulary = context.tokenizer.encode, context.config.vocab_size
    sampling = replace(
        sampling,
        banned=tuple(ids for word in args.ban for ids in word_ids.sequences(word, *vocabulary)),
        boosted=tuple(
            (ids, nats) for word, nats in boosts for ids in word_ids.sequences(word, *vocabulary)
        ),
    )
    ids = context.encode(prompt)
    limits = Limits(args.max_new_tokens, args.stop, args.slide)
    reason = blocked(context, ids, limits)
    steps = generate(context, ids, sampling, limits, top=args.top if args.json else 0)
    if args.json:
        for step in steps:
            print(json.dumps(step.to_dict()), flush=True)
            reason = step.finish_reason
    else:
        # A pipe gets exactly what the model wrote, a terminal only what is harmless.
        safe = sanitize if sys.stdout.isatty() else str
        print(safe(prompt), end="", flush=True)
        for text in _before_stop(_texts(steps), args.stop):
            print(safe(text), end="", flush=True)
        print()
    if reason == "context full":
        size = context.config.block_size
        print(f"context full: {size} of {size} tokens; --slide continues", file=sys.stderr)


def _texts(steps: Iterable[Step]) -> Iterator[str]:
    """The text of each step, then U+FFFD for a character that was not completed."""
    from gpt.tokenizer import StreamDecoder

    decoder = StreamDecoder()
    for step in steps:
        yield decoder.feed(step.bytes)
    yield decoder.feed(b"", final=True)


def _before_stop(texts: Iterable[str], stops: list[str]) -> Iterator[str]:
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
