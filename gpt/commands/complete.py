"""`python -m gpt complete`: continue a text."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from gpt import text_file
from gpt.command_line import Parser
from gpt.commands import completion
from gpt.limits import Limits
from gpt.sanitize import sanitize

if TYPE_CHECKING:
    from gpt.commands.language_model import LanguageModel


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
        "--special",
        action="store_true",
        help="Read the name of a special token in the text as that token. "
        "(default: as ordinary characters)",
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
    completion.add_length(parser)
    completion.add_sampling(parser)


def run(args: argparse.Namespace, load: Callable[[], LanguageModel]) -> None:
    """Draw a text and print it. load: loads the model; called after the arguments are checked."""
    sampling_for = completion.sampling_of(args)
    prompt = args.prompt if args.prompt is not None else text_file.read_stdin()
    model = load()
    sampling = sampling_for(model)
    ids = model.encode(prompt, special=args.special)
    limits = Limits(args.max_new_tokens, args.stop, args.slide)
    steps = model.generate(ids, sampling, limits, top=args.top if args.json else 0)
    if args.json:
        for step in steps:
            print(json.dumps(step.to_dict()), flush=True)
    else:
        # A pipe gets exactly what the model wrote, a terminal only what is harmless.
        safe = sanitize if sys.stdout.isatty() else str
        print(safe(prompt), end="", flush=True)
        drops_blank = not prompt and model.drops_blank
        words = completion.texts(steps, drops_blank=drops_blank)
        for text in completion.before_stop(words, args.stop):
            print(safe(text), end="", flush=True)
        print()
    if steps.finish_reason == "context full":
        size = model.block_size
        advice = "; --slide continues" if model.can_slide else ""
        print(f"context full: {size} of {size} tokens{advice}", file=sys.stderr)
