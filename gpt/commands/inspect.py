"""`python -m gpt inspect`: what happens inside a model, and what if it happened differently."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from gpt import models, text_file
from gpt.command_line import Parser, add_choice, is_given, listed, one_of, whole_number
from gpt.commands import changes
from gpt.errors import UsageError
from gpt.typed_values import LARGEST

if TYPE_CHECKING:
    from gpt.context import Context
    from gpt.record import Record

EXAMPLES = {
    'python -m gpt inspect lens shakespeare "To be, or not"': "See what each layer predicts",
    'python -m gpt inspect attention shakespeare "To be" --layer 1 --head 2': (
        "Show the work of a head"
    ),
    'python -m gpt inspect knockout shakespeare "To be" --mute 3.2 --mute 4.mlp': (
        "Mute a head and an MLP"
    ),
    'python -m gpt inspect logits shakespeare "To be" --token "," --versus " "': (
        "Split a difference"
    ),
    'python -m gpt inspect steer shakespeare "My lord" --towards love --away hate': (
        "Steer away from a word"
    ),
    "python -m gpt inspect model gpt2": "List the weights",
}
"""Command → what it does."""
_WHAT = {
    "lens": "what each layer predicts; with --layer, one layer's best tokens",
    "heads": "where all heads look, and what kinds of heads they are",
    "attention": "the calculation of the head --head in --layer",
    "logits": "which part wrote the logit of --token, minus that of --versus",
    "mattered": "how much each earlier token raises --token",
    "knockout": "what --mute, --mean and --cut change",
    "patch": "what each activation of --other changes",
    "steer": "how long the direction from --away to --towards is, and its effect",
    "neighbours": "tokens near TEXT as vectors; with --plane, its tokens as points",
    "model": "the weights, and with a TEXT the norms of the residual stream",
}
_USES = {
    "lens": ("layer", "middle", "last", "top"),
    "attention": ("layer", "head"),
    "logits": ("token", "versus"),
    "mattered": ("token", "last"),
    "knockout": ("token",),
    "patch": ("token", "versus", "other"),
    "steer": ("layer", "token"),
    "neighbours": ("minus", "matrix", "plane", "top"),
}
"""Which of the options that say where to look each of them uses."""
_PLACES = sorted({name for names in _USES.values() for name in names})


def add_arguments(parser: Parser) -> None:
    """The options of the command."""
    names = max(map(len, _WHAT))
    table = "\n".join(f"  {name:{names}}  {text}" for name, text in _WHAT.items())
    parser.description = f"Look inside a model. Layers and heads count from 1.\n\n{table}"
    group = parser.add_argument_group("input and output")
    group.add_argument(
        "what",
        type=one_of(_WHAT),
        metavar="WHAT",
        help="What to look at, see above.",
    )
    group.add_argument("model", metavar="MODEL", help="Name or directory of the model.")
    group.add_argument("text", nargs="?", metavar="TEXT", help="The text. (default: all of stdin)")
    group.add_argument(
        "--json",
        action="store_true",
        help="Print JSON, a line for each table. (default: print tables)",
    )
    _add_places(parser)
    changes.add_arguments(parser)


def _add_places(parser: Parser) -> None:
    """The options that say where to look."""
    group = parser.add_argument_group("where to look")
    group.add_argument(
        "--layer", type=int, metavar="N", help="The layer. (default: all for lens, else 1)"
    )
    group.add_argument(
        "--head", type=int, default=1, metavar="N", help="The head. (default: %(default)s)"
    )
    group.add_argument(
        "--middle",
        action="store_true",
        help="Look between attention and MLP, too. (default: after each layer)",
    )
    group.add_argument(
        "--last",
        type=whole_number(1, LARGEST),
        default=64,
        metavar="N",
        help="Only the last N tokens. (default: %(default)s)",
    )
    group.add_argument(
        "--top",
        type=whole_number(1, LARGEST),
        default=10,
        metavar="N",
        help="The N best. (default: %(default)s)",
    )
    single = "A single token, or its id as #12."
    group.add_argument(
        "--token", metavar="TOKEN", help=f"{single} (default: the most probable next one)"
    )
    group.add_argument("--versus", metavar="TOKEN", help=f"{single} (default: none)")
    group.add_argument("--other", metavar="TEXT", help="The other text. (default: none)")
    group.add_argument(
        "--minus",
        action="append",
        default=[],
        metavar="TOKEN",
        help="Token to subtract, for an analogy. May be repeated. (default: none)",
    )
    add_choice(group, "--matrix", ("embedding", "output"), "The vectors")
    group.add_argument(
        "--plane",
        action="store_true",
        help="Its tokens as points, in two principal components. (default: neighbours)",
    )
    _name_uses(group)


def _name_uses(group: argparse._ArgumentGroup) -> None:
    """Begin the help of each option with what it is for."""
    for action in group._group_actions:
        users = [what for what, names in _USES.items() if action.dest in names]
        text = action.help or ""
        action.help = f"For {listed(users)}: {text[0].lower()}{text[1:]}"


def _check_places(args: argparse.Namespace) -> None:
    """Refuse options that would change nothing."""
    used = {*_USES.get(args.what, ()), *(["layer"] if args.towards else [])}
    which = args.what
    if which == "lens":  # the last tokens at every layer, or the best tokens at one
        used -= {"top" if args.layer is None else "last"}
        which += " without --layer" if args.layer is None else " with --layer"
    if unused := [f"--{name}" for name in _PLACES if name not in used and is_given(args, name)]:
        raise UsageError(f"{which} does not use {', '.join(unused)}")


def run(args: argparse.Namespace, load: Callable[[], Context]) -> None:
    """Look and print. load: loads the model; called after the arguments are checked."""
    from gpt.commands.inspect_headings import Text
    from gpt.commands.inspect_tables import lines
    from gpt.interpret.architecture import architecture
    from gpt.interpret.looks import Token

    if args.what == "model" and args.text is None:
        answers: Iterator[Record] = iter(
            [architecture(models.read_config(models.find(args.model)))]
        )
        text = Text(())
    else:
        from gpt.commands.inspect_answers import answers_of, asked, check
        from gpt.interventions import describe

        check(args)
        _check_places(args)
        given = text_file.read_stdin() if args.text is None else args.text
        context = load()
        words = args.what == "neighbours"
        ids = context.tokenizer.encode_more(given) if words else context.encode(given)
        bytes_of = context.tokenizer.token_bytes
        args = asked(context, ids, args)

        def tokens(some: Iterable[int]) -> tuple[Token, ...]:
            return tuple(Token(i, bytes_of(i)) for i in some)

        changed = ", ".join(map(describe, changes.interventions_of(args)))
        about = tokens(args.asked), tokens(args.minus)
        text = Text(tokens(ids), context.config.n_layer, *about, changed)
        answers = answers_of(context, ids, args)
    for answer in answers:
        if args.json:
            print(json.dumps(answer.to_dict()))
        else:
            print(*lines(answer, text), sep="\n")
            is_partial = args.what == "mattered" or (args.what == "lens" and args.layer is None)
            if is_partial and len(text.tokens) > args.last:
                print(f"These are the last {args.last} of {len(text.tokens)} tokens (--last).")
