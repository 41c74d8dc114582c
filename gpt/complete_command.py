"""`python -m gpt complete`: draw a continuation of a prompt."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from gpt import text_file, word_ids
from gpt.sanitize import sanitize
from gpt.settings import Sampling
from gpt.step import Step

if TYPE_CHECKING:
    from gpt.context import Context


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options: one for every setting of sampling, and some of its own."""
    parser.add_argument("prompt", nargs="?", help="default: all of stdin")
    parser.add_argument("-n", "--max-new-tokens", type=int, default=200, metavar="N")
    defaults = Sampling()
    for field in fields(Sampling):
        default = getattr(defaults, field.name)
        if not isinstance(default, tuple):
            option = "--" + field.name.replace("_", "-")
            parser.add_argument(option, type=type(default), default=default, metavar="X")
    parser.add_argument(
        "--ban", action="append", default=[], metavar="WORD", help="never write it; #12 is an id"
    )
    parser.add_argument(
        "--boost",
        action="append",
        default=[],
        metavar="WORD:NATS",
        help="add to the logit of its tokens",
    )
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT")
    parser.add_argument("--slide", action="store_true", help="continue past the block size")
    parser.add_argument("--json", action="store_true", help="one Step a line")
    parser.add_argument("--top", type=int, default=10, help="candidates in a Step")


def run(args: argparse.Namespace, load: Callable[[], Context]) -> None:
    """Draw and print. load: called once the arguments make sense."""
    plain = [field.name for field in fields(Sampling) if field.name not in ("banned", "boosted")]
    sampling = Sampling(**{name: getattr(args, name) for name in plain})
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
        # A pipe gets what the model wrote; a terminal only what is harmless.
        shown = sanitize if sys.stdout.isatty() else str
        print(shown(prompt), end="", flush=True)
        for text in _before_stop(_texts(steps), args.stop):
            print(shown(text), end="", flush=True)
        print()
    if reason == "context full":
        size = context.config.block_size
        print(f"context full: {size} of {size} tokens (--slide continues)", file=sys.stderr)


def _texts(steps: Iterable[Step]) -> Iterator[str]:
    """The text of each step, then what can never become a whole character."""
    from gpt.tokenizer import StreamDecoder

    decoder = StreamDecoder()
    for step in steps:
        yield decoder.feed(step.bytes)
    yield decoder.feed(b"", final=True)


def _before_stop(texts: Iterable[str], stops: list[str]) -> Iterator[str]:
    """The text up to a stop string; what may be the beginning of one is held back."""
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
    """Length of the longest end of text with which stop begins."""
    sizes = range(min(len(text), len(stop) - 1), 0, -1)
    return next((n for n in sizes if text.endswith(stop[:n])), 0)
