"""`python -m gpt score`: how probable a text is, token by token, or each of several options."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gpt import text_file
from gpt.errors import UserError
from gpt.step import Step

if TYPE_CHECKING:
    from gpt.context import Context


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("file", nargs="?", help="a text file, or - for stdin")
    what.add_argument("--options", nargs="+", metavar="TEXT", help="continuations to compare")
    parser.add_argument("--prompt", metavar="TEXT", help="what the options continue")
    parser.add_argument("--json", action="store_true", help="one Step, or one option, a line")
    parser.add_argument("--top", type=int, default=10, help="candidates in a Step")


def run(args: argparse.Namespace, load: Callable[[], Context]) -> None:
    """Measure and print. load: called once the arguments make sense."""
    if args.options is not None:
        if not args.prompt:
            raise UserError("give what the options continue with --prompt")
        _compare(args, load())
    elif args.prompt is not None:
        raise UserError("--prompt belongs to --options; a file is scored as it is")
    else:
        text = text_file.read_stdin() if args.file == "-" else text_file.read(Path(args.file))
        _score(args, load(), text)


def _score(args: argparse.Namespace, context: Context, text: str) -> None:
    from gpt.generate import score

    known = []
    for step in score(context, context.encode(text), top=args.top if args.json else 0):
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


def _compare(args: argparse.Namespace, context: Context) -> None:
    """Each option after the prompt. The prompt is read once, and an option's tokens are those that
    it has by itself after the prompt's, as in what a model would write there."""
    from gpt.generate import score

    prompt = context.encode(args.prompt)
    found = []
    for option in args.options:
        ids = context.tokenizer.encode(option)
        if not ids:
            raise UserError("an option is empty; give at least one character")
        top = args.top if args.json else 0
        steps = list(score(context, prompt + ids, start=len(prompt), top=top))
        found.append((option, steps, _totals(steps)))
    if args.json:
        for option, steps, totals in found:
            tokens = [step.to_dict() for step in steps]
            print(json.dumps({"option": option, "totals": totals, "tokens": tokens}))
        return
    for option, steps, totals in found:
        print(f"{option!r}")
        for step in steps:
            print(_line(step))
        print(
            f"{math.exp(-totals['nats']):12.6g}  the whole: {totals['nats']:.3f} nats, "
            f"{totals['bits_per_byte']:.4f} bits per byte"
        )
    best = max(found, key=lambda each: -each[2]["nats"])
    fair = min(found, key=lambda each: each[2]["bits_per_byte"])
    print(f"most probable: {best[0]!r}; per byte: {fair[0]!r}")


def _totals(steps: Iterable[Step]) -> dict[str, float]:
    known = [(step.logprob, len(step.bytes)) for step in steps if step.logprob is not None]
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
    data = step.bytes.decode("utf-8", "backslashreplace")
    name = repr(data) if step.bytes else f"<{step.token_id}>"
    if step.logprob is None:
        return f"{'no context':>12}  {name}"
    return f"{math.exp(step.logprob):12.6f}  {name}"
