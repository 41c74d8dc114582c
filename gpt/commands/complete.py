"""`python -m gpt complete`: continue a text."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from gpt import text_file
from gpt.command_line import Parser
from gpt.commands import changes, completion, running
from gpt.errors import UsageError
from gpt.limits import Limits
from gpt.sanitize import sanitize

if TYPE_CHECKING:
    from gpt.commands.language_model import Drawing, LanguageModel
    from gpt.interventions import Intervention


EXAMPLES = {
    'python -m gpt complete "ROMEO:" --temperature 0.8 --seed 1': "Continue a line of Shakespeare",
    'echo "To be, or not to be" | python -m gpt complete -n 50': "Continue a text from a pipe",
    'python -m gpt complete "ROMEO:" --branches 4 --json': "Four continuations at once, as JSON",
    'python -m gpt complete "ROMEO:" --ban love --boost death:2': "Forbid a word, favour another",
    'python -m gpt complete "ROMEO:" --mute 6.mlp --seed 1': "Write with a part switched off",
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
    running.add_top(group)
    group.add_argument(
        "--branches",
        type=completion.setting("branches"),
        default=1,
        metavar="N",
        help="Draw N texts at once, each with the next seed. (default: %(default)s)",
    )
    completion.add_length(parser)
    completion.add_sampling(parser)
    inside = changes.add_arguments(parser)
    inside.add_argument(
        "--layer",
        type=int,
        metavar="N",
        help="The layer after which the direction is added; 0 is the embedding. (default: 1)",
    )


def run(args: argparse.Namespace, load: Callable[[], LanguageModel]) -> None:
    """Draw a text and print it. load: loads the model; called after the arguments are checked."""
    sampling_for = completion.sampling_of(args)
    interventions = changes.interventions_of(args)
    if args.layer is not None and not args.towards:
        raise UsageError("--layer needs a direction: --towards and --away")
    prompt = args.prompt if args.prompt is not None else text_file.read_stdin()
    model = load()
    if interventions:
        model = model.changed(interventions)
    sampling = sampling_for(model)
    ids = model.encode(prompt, special=args.special)
    limits = Limits(args.max_new_tokens, args.stop, args.slide)
    drawings = model.branches(ids, sampling, limits, args.branches, top=args.top * args.json)
    if args.json:
        _print_json(drawings, interventions)
    else:
        drops_blank = not prompt and model.drops_blank
        for number, steps in enumerate(drawings):
            if args.branches > 1:
                print(f"--- branch {number + 1}, seed {sampling.branch(number).seed}")
            words = completion.texts(steps, drops_blank=drops_blank)
            _print_text(prompt, completion.before_stop(words, args.stop))
    if any(steps.finish_reason == "context full" for steps in drawings):
        size = model.block_size
        advice = "; --slide continues" if model.can_slide else ""
        print(f"context full: {size} of {size} tokens{advice}", file=sys.stderr)


def _print_json(drawings: Sequence[Drawing], interventions: Sequence[Intervention]) -> None:
    from gpt.interventions import to_dicts

    inside = {"interventions": to_dicts(interventions)} if interventions else {}
    for number, steps in enumerate(drawings):
        which = {"branch": number} if len(drawings) > 1 else {}
        for step in steps:
            print(json.dumps({**which, **step.to_dict(), **inside}), flush=True)


def _print_text(prompt: str, words: Iterable[str]) -> None:
    # A pipe gets exactly what the model wrote, a terminal only what is harmless.
    safe = sanitize if sys.stdout.isatty() else str
    print(safe(prompt), end="", flush=True)
    for text in words:
        print(safe(text), end="", flush=True)
    print()
