"""`python -m gpt score`: how probable a text is, or each of several continuations of a prompt."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gpt import text_file
from gpt.command_line import Parser
from gpt.commands import running
from gpt.commands.percent import percent
from gpt.errors import UsageError, UserError
from gpt.sanitize import one_line
from gpt.step import Step

if TYPE_CHECKING:
    from gpt.commands.language_model import LanguageModel


EXAMPLES = {
    "python -m gpt score FILE": "Score every token of a text",
    'echo "To be, or not to be" | python -m gpt score -': "Score a text from a pipe",
    'python -m gpt score --prompt "KING RICHARD" --options " II:" " III:"': "Compare continuations",
}
"""Command → what it does."""


def add_arguments(parser: Parser) -> None:
    """The options of the command."""
    group = parser.add_argument_group("input and output")
    what = group.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="Text file to score, or - for stdin. (default: none)",
    )
    what.add_argument(
        "--options",
        nargs="+",
        metavar="TEXT",
        help="Continuations of --prompt to compare. (default: score a file)",
    )
    group.add_argument(
        "--prompt", metavar="TEXT", help="Text that the options continue. (default: none)"
    )
    group.add_argument(
        "--special",
        action="store_true",
        help="Read the name of a special token in a text as that token. "
        "(default: as ordinary characters)",
    )
    group.add_argument(
        "--json",
        action="store_true",
        help="Print each token or option as a JSON object on a line. (default: print a table)",
    )
    running.add_top(group)


def run(args: argparse.Namespace, load: Callable[[], LanguageModel]) -> None:
    """Score and print. load: loads the model; called after the arguments are checked."""
    if args.options is not None:
        if not args.prompt:
            raise UsageError("--options needs --prompt with the text that they continue")
        _compare(args, load())
    elif args.prompt is not None:
        raise UsageError("--prompt needs --options; a file is scored without a prompt")
    else:
        text = text_file.read_stdin() if args.file == "-" else text_file.read(Path(args.file))
        _score(args, load(), text)


_HEADING = f"{'probability':>12}  token"


def _score(args: argparse.Namespace, model: LanguageModel, text: str) -> None:
    """Print each token of a text, then the totals."""
    known = []
    ids = model.encode(text, special=args.special)
    if len(ids) < 2:
        raise UserError("the text has no token with a context; score at least two tokens")
    if not args.json:
        print(_HEADING)
    for step in model.score(ids, top=args.top if args.json else 0):
        if step.logprob is not None:
            known.append(step)
        if args.json:
            print(json.dumps(step.to_dict()))
        else:
            print(_line(step))
    if not known:
        raise UserError("the text has no token with a context; score at least two tokens")
    totals = _totals(known)
    if args.json:
        print(json.dumps({"totals": totals}))
    else:
        print(
            f"{totals['nats']:.3f} nats over {totals['tokens']} tokens ({totals['bytes']} bytes; "
            f"the first token has no context), {totals['bits_per_byte']:.4f} bits per byte, "
            f"perplexity {totals['perplexity']:.3f}"
        )


def _compare(args: argparse.Namespace, model: LanguageModel) -> None:
    """Print each option, then the best ones.

    The network reads the prompt once. Prompt and option become tokens separately, as in a text
    that a model writes after the prompt.
    """
    prompt = model.encode(args.prompt, special=args.special)
    found = []
    for option in args.options:
        ids = model.encode_more(option, special=args.special)
        if not ids:
            raise UsageError("an option is empty; it must have at least one character")
        top = args.top if args.json else 0
        steps = list(model.score(prompt + ids, start=len(prompt), top=top))
        found.append((option, steps, _totals(steps)))
    if args.json:
        for option, steps, totals in found:
            tokens = [step.to_dict() for step in steps]
            print(json.dumps({"option": option, "totals": totals, "tokens": tokens}))
        return
    print(_HEADING)
    for option, steps, totals in found:
        print(f"{option!r}")
        for step in steps:
            print(_line(step))
        print(
            f"{percent(-totals['nats']):>12}  the whole: {totals['nats']:.3f} nats, "
            f"{totals['bits_per_byte']:.4f} bits per byte"
        )
    best, _, _ = min(found, key=lambda each: each[2]["nats"])
    best_per_byte, _, _ = min(found, key=lambda each: each[2]["bits_per_byte"])
    print(f"most probable: {best!r}; per byte: {best_per_byte!r}")


def _totals(steps: Iterable[Step]) -> dict[str, float]:
    """Sums over all tokens that have a context; perplexity is exp(nats / tokens)."""
    known = [(step.logprob, len(step.added)) for step in steps if step.logprob is not None]
    nats = -math.fsum(logprob for logprob, _ in known)
    n_bytes = sum(n for _, n in known)
    mean = nats / max(1, len(known))
    return {
        "tokens": len(known),
        "bytes": n_bytes,
        "nats": nats,
        "bits_per_byte": nats / math.log(2) / max(1, n_bytes),
        "perplexity": math.exp(mean) if mean < 700 else math.inf,
    }


def _line(step: Step) -> str:
    """Probability and text of a token, for a person."""
    try:
        name = repr(step.bytes.decode()) if step.bytes else f"<{step.token_id}>"
    except UnicodeDecodeError:  # a part of a character; repr would double the backslashes
        name = f"'{one_line(step.bytes.decode('utf-8', 'backslashreplace'))}'"
    return f"{'—' if step.logprob is None else percent(step.logprob):>12}  {name}"
