"""The options that change what happens inside a network: switch parts off, cut edges, steer."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from gpt.command_line import Parser, add_choice, is_given, number, wrong
from gpt.errors import UsageError

if TYPE_CHECKING:
    from gpt.interventions import Edge, Intervention, Knockout


_OF_DIRECTION = ("strength", "over")
"""Options that only say something about a direction."""


def add_arguments(parser: Parser) -> argparse._ArgumentGroup:
    """The options that say what is changed; --layer, that of a direction, is the command's."""
    group = parser.add_argument_group("what to change")
    part = "3: a layer; 3.2: a head; 3.mlp or 3.attention. May be repeated."
    for name, verb in (("mute", "Mute a part."), ("mean", "Replace a part by its mean.")):
        group.add_argument(
            f"--{name}",
            action="append",
            default=[],
            type=_knockout("zero" if name == "mute" else "mean"),
            metavar="PART",
            help=f"{verb} {part} (default: none)",
        )
    group.add_argument(
        "--cut",
        action="append",
        default=[],
        type=_edge,
        metavar="FROM[:TO][@PART]",
        help="Hide the token at position FROM from that at TO, or from all later ones, in a layer "
        "or a head, or in all. May be repeated. (default: none)",
    )
    for name, way in (("towards", "towards"), ("away", "away from")):
        group.add_argument(
            f"--{name}",
            action="append",
            default=[],
            metavar="TEXT",
            help=f"Text to steer {way}. May be repeated. (default: none)",
        )
    group.add_argument(
        "--strength",
        type=_strength,
        default=1.0,
        metavar="X",
        help="Number by which the direction is multiplied. (default: %(default)s)",
    )
    add_choice(group, "--over", ("last", "mean"), "Which of a text's tokens give its vector")
    return group


def _knockout(by: str) -> Callable[[str], Knockout]:
    def read(text: str) -> Knockout:
        from gpt.interventions import Knockout

        if not (found := re.fullmatch(r"(\d{1,4})(?:\.(\d{1,5}|mlp|attention))?", text.lower())):
            raise wrong(text, "a part, such as 3, 3.2, 3.mlp or 3.attention")
        layer, part = int(found[1]), found[2] or "layer"
        head = int(part) if part.isdecimal() else None
        values = {"part": part if head is None else "head", "layer": layer, "head": head, "by": by}
        return Knockout.from_dict(values)

    return read


def _strength(text: str) -> float:
    from gpt.interventions import STRONGEST as MOST

    noun = f"a number from {-MOST:g} to {MOST:g}"
    return number(float, noun, lambda value: abs(value) <= MOST)(text)


def _edge(text: str) -> Edge:
    from gpt.interventions import Edge

    pattern = r"(\d{1,9})(?::(\d{1,9}))?(?:@(\d{1,4})(?:\.(\d{1,5}))?)?"
    if not (found := re.fullmatch(pattern, text)):
        raise wrong(text, "an edge, such as 3, 3:7, 3:7@2 or 3:7@2.1")
    source, target, layer, head = (None if part is None else int(part) for part in found.groups())
    return Edge(source=source or 0, target=target, layer=layer, head=head)


def interventions_of(args: argparse.Namespace) -> tuple[Intervention, ...]:
    """What the options change inside the network."""
    found: list[Intervention] = [*args.mute, *args.mean, *args.cut]
    if not (args.towards or args.away):
        unused = [f"--{name}" for name in _OF_DIRECTION if is_given(args, name)]
        if unused:
            needs = "needs" if len(unused) == 1 else "need"
            raise UsageError(f"{' and '.join(unused)} {needs} a direction: --towards and --away")
    else:
        if not (args.towards and args.away):
            raise UsageError("a direction needs --towards and --away, each with a text")
        from gpt.interventions import Steer

        steer = Steer(
            layer=layer_of(args),
            towards=tuple(args.towards),
            away=tuple(args.away),
            strength=args.strength,
            over=args.over,
        )
        found.append(steer)
    return tuple(found)


def layer_of(args: argparse.Namespace) -> int:
    """The layer of --layer; without it the first one."""
    return 1 if args.layer is None else int(args.layer)
