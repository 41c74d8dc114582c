"""`python -m gpt chat`: a chat in a pipe or a terminal, a turn on each line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from gpt import models, text_file
from gpt.command_line import Parser
from gpt.commands import completion, running
from gpt.errors import UserError
from gpt.limits import Limits
from gpt.sanitize import sanitize
from gpt.step import Step
from gpt.tokenizer import LONGEST_TEXT

if TYPE_CHECKING:
    from gpt.commands.language_model import LanguageModel

EXAMPLES = {
    "python -m gpt chat my-model": "Chat; Ctrl+C stops an answer, Ctrl+D ends",
    'echo "Who are you?" | python -m gpt chat my-model --system "You are a cat."': "Ask in a pipe",
    "python -m gpt chat my-model --json": "See every token of the answers",
}
"""Command → what it does."""
_USUAL = {"temperature": 0.8, "top_p": 0.95}
"""Settings that differ from the model's own distribution, which few models can chat with."""


def add_arguments(parser: Parser) -> None:
    """The options of the command."""
    group = parser.add_argument_group("input and output")
    group.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help=f"Name or directory of the model. (default: {models.EMBEDDED})",
    )
    group.add_argument(
        "--system",
        default="",
        metavar="TEXT",
        help="What the model is told before the first turn. (default: what its template says)",
    )
    group.add_argument(
        "--json",
        action="store_true",
        help="Print each turn as a JSON object on a line, its tokens as Steps. "
        "(default: print the answers)",
    )
    running.add_top(group)
    completion.add_length(parser)
    completion.add_sampling(parser)
    parser.set_defaults(**_USUAL)


def run(args: argparse.Namespace, load: Callable[[], LanguageModel]) -> None:
    """Answer each line of stdin. load: loads the model; called after the arguments are checked."""
    sampling_for = completion.sampling_of(args)
    model = load()
    sampling, top = sampling_for(model), args.top if args.json else 0
    ids: list[int] = []
    if about := model.about_chat:
        print(about, file=sys.stderr)
    is_conversation = sys.stdin.isatty() and sys.stdout.isatty() and not args.json
    if not is_conversation:
        text_file.say_if_typed("a message a line")
    for text in _typed() if is_conversation else _lines():
        if not text.strip():
            continue
        n_before = len(ids)
        ids, stops = model.turn(ids, text, args.system)
        n_prompt = len(ids) - n_before
        stops = [*args.stop, *stops]
        limits = Limits(args.max_new_tokens, stops, args.slide)
        steps: list[Step] = []
        drawing = model.generate(list(ids), sampling, limits, top=top)
        words = completion.before_stop(completion.texts(_kept(drawing, steps)), stops)
        if args.json:
            answer = "".join(words)
        else:
            _print(words, stoppable=is_conversation)
        ids += [step.token_id for step in steps]
        reason = drawing.finish_reason
        if args.json:
            print(json.dumps(_turn(text, answer, n_prompt, reason, steps)), flush=True)
        if reason == "context full":
            size = model.block_size
            advice = "; --slide continues" if model.can_slide else ""
            print(f"context full: {size} of {size} tokens{advice}", file=sys.stderr)


def _print(words: Iterable[str], *, stoppable: bool) -> None:
    """Print an answer as it comes, and end the line.

    stoppable: Ctrl+C ends the answer, and not the program.
    """
    # A pipe gets exactly what the model wrote, a terminal only what is harmless.
    safe = sanitize if sys.stdout.isatty() else str
    try:
        for word in words:
            print(safe(word), end="", flush=True)
    except KeyboardInterrupt:
        if not stoppable:
            raise
    print(flush=True)


def _turn(
    text: str, answer: str, n_prompt: int, reason: str | None, steps: list[Step]
) -> dict[str, Any]:
    """The documented JSON shape of a turn."""
    return {
        "text": text,
        "answer": answer,
        "prompt_tokens": n_prompt,
        "finish_reason": reason,
        "tokens": [step.to_dict() for step in steps],
    }


def _kept(steps: Iterable[Step], kept: list[Step]) -> Iterator[Step]:
    """The steps, each put into a list before it is handed on."""
    for step in steps:
        kept.append(step)
        yield step


def _typed() -> Iterator[str]:
    """Lines that a person types at a prompt, until Ctrl+D."""
    with suppress(ImportError):
        import readline  # noqa: F401  input() edits lines with it; Windows has none
    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return
        except ValueError as error:
            raise UserError("what was typed is not UTF-8 text") from error


def _lines() -> Iterator[str]:
    """The lines of stdin, each as soon as it is there."""
    while data := sys.stdin.buffer.readline(4 * LONGEST_TEXT + 1):
        text = text_file.decode(data, "stdin").removesuffix("\n")
        if len(text) > LONGEST_TEXT:
            raise UserError(
                f"a line has {len(text):,} characters; at most {LONGEST_TEXT:,} are allowed"
            )
        yield text
