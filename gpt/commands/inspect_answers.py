"""What `python -m gpt inspect` asks a model, from the options of the command."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence

from gpt.commands.changes import interventions_of, layer_of
from gpt.context import Context
from gpt.errors import UsageError, UserError
from gpt.interpret.architecture import architecture
from gpt.interpret.grid import lens_cell, lens_grid, stream_norms
from gpt.interpret.heads import heads, work
from gpt.interpret.intervene import effect, intervened
from gpt.interpret.logit_parts import logit_parts
from gpt.interpret.mattered import mattered
from gpt.interpret.patch import patch_grid
from gpt.interpret.steer import steering
from gpt.interpret.words import matrix_named, neighbours, plane
from gpt.interventions import Edge, Intervention, Steer
from gpt.record import Record

_CHANGED = ("lens", "heads", "attention", "mattered", "knockout", "steer", "model")
"""What a changed network can be asked."""
_EXPLAINED = ("logits", "mattered", "patch", "knockout", "steer")
"""What is about one token after the text."""
_BEFORE = ("knockout", "steer")
"""What is about the token that is the most probable one before anything is changed."""
_COMPARED = ("logits", "patch")
"""What can be about the difference of two."""


def check(args: argparse.Namespace) -> None:
    """Refuse options that do not fit together, before the model is loaded."""
    changes = interventions_of(args)
    if changes and args.what not in _CHANGED:
        raise UsageError(f"{args.what} looks at the network as it is; leave out what changes it")
    if args.what == "knockout" and not changes:
        raise UsageError("knockout needs something to change: --mute, --mean or --cut")
    if args.what == "steer" and not any(isinstance(each, Steer) for each in changes):
        raise UsageError("steer needs --towards and --away, each with a text")
    if args.what == "patch" and (args.other is None or args.versus is None):
        raise UsageError("patch needs --other with a text, and --versus with a token")


def answers_of(context: Context, ids: Sequence[int], args: argparse.Namespace) -> Iterator[Record]:
    """The answers to print. args: from `asked`."""
    yield from _ANSWERS[args.what](context, list(ids), args)


def _token(context: Context, word: str) -> int:
    """The id of a single token, or of #12."""
    if word[:1] == "#" and word[1:].isdecimal() and len(word) < 12:
        ids = [int(word[1:])]
    else:
        ids = context.tokenizer.encode_more(word)
    if len(ids) != 1:
        raise UserError(
            f"{word[:50]!r} is {len(ids)} tokens of this model; give a single token, or its id as "
            "#12"
        )
    context.check_ids(ids)
    return ids[0]


def asked(context: Context, ids: Sequence[int], args: argparse.Namespace) -> argparse.Namespace:
    """The same options with ids instead of words.

    `asked` has the token that is explained, which is the most probable one if none is named, and
    the one that it is compared with; `minus` has those that are subtracted.
    """
    if not ids:
        raise UserError("the text is empty; give at least one token")
    found: list[int] = []
    changes = interventions_of(args)
    _check_edges(changes, len(ids))
    if args.what in _EXPLAINED:
        if args.token is None:
            of = () if args.what in _BEFORE else changes
            with intervened(context, of, ids) as changed:
                found.append(int(changed.raw_logits(changed.read_end(list(ids))[-1]).argmax()))
        else:
            found.append(_token(context, args.token))
    if args.what in _COMPARED and args.versus is not None:
        found.append(_token(context, args.versus))
        if found[0] == found[1]:
            raise UsageError("--token and --versus are the same token, so nothing differs")
    if args.what == "patch" and context.encode(args.other) == list(ids):
        raise UsageError("--other is the same text; change a word")
    words = args.minus if args.what == "neighbours" else ()
    minus = [_token(context, word) for word in words]
    return argparse.Namespace(**vars(args) | {"asked": found, "minus": minus})


def _check_edges(changes: Sequence[Intervention], n_tokens: int) -> None:
    """Raise UsageError naming a token that is cut and that a text of so many tokens has not."""
    ends = [i for each in changes if isinstance(each, Edge) for i in (each.source, each.target)]
    if bad := [i for i in ends if i is not None and i >= n_tokens]:
        raise UsageError(f"--cut: there is no token {bad[0]}; the text has 0 to {n_tokens - 1}")


def _lens(context: Context, ids: list[int], args: argparse.Namespace) -> Iterator[Record]:
    with intervened(context, interventions_of(args), ids) as changed:
        if args.layer is None:
            yield lens_grid(changed, ids, last=args.last, has_middle=args.middle)
        else:
            yield lens_cell(changed, ids, args.layer, is_middle=args.middle, top=args.top)


def _heads(context: Context, ids: list[int], args: argparse.Namespace) -> Iterator[Record]:
    with intervened(context, interventions_of(args), ids) as changed:
        yield heads(changed, ids)


def _attention(context: Context, ids: list[int], args: argparse.Namespace) -> Iterator[Record]:
    with intervened(context, interventions_of(args), ids) as changed:
        yield work(changed, ids, layer_of(args), args.head)


def _logits(context: Context, ids: list[int], args: argparse.Namespace) -> Iterator[Record]:
    yield logit_parts(context, ids, *args.asked)


def _mattered(context: Context, ids: list[int], args: argparse.Namespace) -> Iterator[Record]:
    with intervened(context, interventions_of(args), ids) as changed:
        yield mattered(changed, ids, *args.asked, last=args.last)


def _knockout(context: Context, ids: list[int], args: argparse.Namespace) -> Iterator[Record]:
    yield effect(context, [*ids, *args.asked], interventions_of(args))


def _patch(context: Context, ids: list[int], args: argparse.Namespace) -> Iterator[Record]:
    yield patch_grid(context, ids, context.encode(args.other), *args.asked)


def _steer(context: Context, ids: list[int], args: argparse.Namespace) -> Iterator[Record]:
    changes = interventions_of(args)
    yield from (steering(context, ids, each) for each in changes if isinstance(each, Steer))
    yield effect(context, [*ids, *args.asked], changes)


def _neighbours(context: Context, ids: list[int], args: argparse.Namespace) -> Iterator[Record]:
    matrix = matrix_named(args.matrix)
    if args.plane:
        yield plane(context, ids, matrix=matrix)
    else:
        yield neighbours(context, ids, args.minus, matrix=matrix, top=args.top)


def _model(context: Context, ids: list[int], args: argparse.Namespace) -> Iterator[Record]:
    yield architecture(context.config)
    with intervened(context, interventions_of(args), ids) as changed:
        yield stream_norms(changed, ids)


_ANSWERS: dict[str, Callable[[Context, list[int], argparse.Namespace], Iterator[Record]]] = {
    "lens": _lens,
    "heads": _heads,
    "attention": _attention,
    "logits": _logits,
    "mattered": _mattered,
    "knockout": _knockout,
    "patch": _patch,
    "steer": _steer,
    "neighbours": _neighbours,
    "model": _model,
}
