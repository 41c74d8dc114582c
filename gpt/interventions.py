"""What may be changed inside a network while it reads, as plain records. Imports no torch.

gpt/interpret/intervene.py applies them. Layers and heads are counted from 1, as on the screen;
layer 0 is the embedding. Positions are indices of tokens in the text, from 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gpt.config import ModelConfig
from gpt.errors import UserError
from gpt.record import Record
from gpt.sanitize import one_line

Part = Literal["head", "attention", "mlp", "layer"]
MOST = 256
"""Most interventions at once, and most texts of a direction."""
_SHOWN = 12
"""Most characters of a text that are shown."""
_LONGEST_TEXT = 10_000
"""Most characters in a text of a direction."""
STRONGEST = 1e6
"""Largest strength of a direction, up or down."""


@dataclass(frozen=True, kw_only=True)
class Knockout(Record):
    """What a part adds to the residual stream becomes nothing, or its mean over the text."""

    part: Part
    """"head": what it hands to the output projection of attention, whose bias stays. "attention"
    and "mlp": the whole output, with its bias. "layer": the stream passes the block unchanged."""
    layer: int
    """The block, from 1."""
    head: int | None = None
    """The head of queries, from 1; only for the part "head"."""
    by: Literal["zero", "mean"] = "zero"
    """What replaces it; "mean": its mean over the tokens of the context, in the unchanged
    network."""


@dataclass(frozen=True, kw_only=True)
class Edge(Record):
    """A token cannot attend to an earlier one; its other attention weights still sum to 1."""

    source: int
    """Position of the earlier token."""
    target: int | None = None
    """Position of the token that does not see it; None: every later token."""
    layer: int | None = None
    """The block, from 1; None: all."""
    head: int | None = None
    """The head of queries, from 1; None: all."""


@dataclass(frozen=True, kw_only=True)
class Steer(Record):
    """Add a direction to the residual stream of every token (Turner et al. 2023,
    arXiv:2308.10248; Rimsky et al. 2024, arXiv:2312.06681).

    The direction is the mean of the stream over the texts `towards` minus that over `away`.
    """

    layer: int
    """Where it is added: after this block; 0: after the embedding."""
    towards: tuple[str, ...]
    away: tuple[str, ...]
    strength: float = 1.0
    """Number by which the direction is multiplied; 0 changes nothing."""
    over: Literal["last", "mean"] = "last"
    """Whether a text gives the stream at its last token, or the mean over all its tokens."""


Intervention = Knockout | Edge | Steer
KINDS: dict[str, type[Knockout] | type[Edge] | type[Steer]] = {
    "knockout": Knockout,
    "edge": Edge,
    "steer": Steer,
}
_KIND_OF = {kind: name for name, kind in KINDS.items()}
_STATES = {"zero": "muted", "mean": "replaced by its mean"}
"""What replaces a part → what that is called."""


def to_dicts(interventions: Sequence[Intervention]) -> list[dict[str, Any]]:
    """Plain values, for JSON: the fields of each, and its `kind`."""
    return [{"kind": _KIND_OF[type(each)], **each.to_dict()} for each in interventions]


def from_dicts(values: Any) -> tuple[Intervention, ...]:
    """The reverse of to_dicts, for values from anywhere. Raises UserError naming what is wrong."""
    if not isinstance(values, list | tuple):
        raise UserError("interventions must be a list of objects")
    if len(values) > MOST:
        raise UserError(f"there are {len(values)} interventions; at most {MOST} are possible")
    return tuple(_from_dict(number, each) for number, each in enumerate(values, 1))


def _from_dict(number: int, values: Any) -> Intervention:
    kind = values.get("kind") if isinstance(values, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"intervention {number} must have a kind: {', '.join(KINDS)}")
    others = {name: value for name, value in values.items() if name != "kind"}
    try:
        return KINDS[kind].from_dict(others)
    except ValueError as error:
        raise UserError(f"intervention {number} ({kind}): {error}") from None


def check(interventions: Sequence[Intervention], config: ModelConfig, n_tokens: int) -> None:
    """Refuse what a network of this configuration does not have.

    n_tokens: tokens of the text, now or when it will be complete.
    """
    if len(interventions) > MOST:
        raise UserError(
            f"there are {len(interventions)} interventions; at most {MOST} are possible"
        )
    for each in interventions:
        lowest = 0 if isinstance(each, Steer) else 1
        _require("layer", each.layer, lowest, config.n_layer)
        if not isinstance(each, Steer):
            _require("head", each.head, 1, config.n_head)
        _CHECKS[type(each)](each, config, n_tokens)


def _check_knockout(each: Knockout, config: ModelConfig, n_tokens: int) -> None:
    if (each.part == "head") != (each.head is not None):
        raise UserError("a knock-out names a head if its part is head, and only then")


def _check_edge(each: Edge, config: ModelConfig, n_tokens: int) -> None:
    if n_tokens > config.block_size:
        raise UserError(
            f"an attention edge needs a text that the model reads at once: at most "
            f"{config.block_size} tokens, not {n_tokens}"
        )
    if each.source < 0 or (each.target is not None and each.target <= each.source):
        raise UserError("an attention edge leads from a token to a later one")


def _check_steer(each: Steer, config: ModelConfig, n_tokens: int) -> None:
    if not math.isfinite(each.strength) or abs(each.strength) > STRONGEST:
        raise UserError(
            f"the strength of a direction is {each.strength:g}; it must be a number from "
            f"{-STRONGEST:g} to {STRONGEST:g}"
        )
    if sorted(each.towards) == sorted(each.away):
        raise UserError("towards and away have the same texts, so there is no direction")
    for name, texts in (("towards", each.towards), ("away", each.away)):
        if not 1 <= len(texts) <= MOST or not all(1 <= len(t) <= _LONGEST_TEXT for t in texts):
            raise UserError(
                f"{name} must have 1 to {MOST} texts of 1 to {_LONGEST_TEXT} characters"
            )


_CHECKS: dict[type, Callable[[Any, ModelConfig, int], None]] = {
    Knockout: _check_knockout,
    Edge: _check_edge,
    Steer: _check_steer,
}


def _require(name: str, value: int | None, lowest: int, highest: int) -> None:
    if value is not None and not lowest <= value <= highest:
        raise UserError(f"there is no {name} {value}; this model has {lowest} to {highest}")


def describe(each: Intervention) -> str:
    """A short name for a person, such as "layer 3 head 2 muted"."""
    layer = "all layers" if each.layer is None else f"layer {each.layer}"
    if isinstance(each, Steer):
        towards, away = (", ".join(map(_quoted, texts)) for texts in (each.towards, each.away))
        return f"{layer} steered by {each.strength:g} from {away} to {towards}"
    head = "" if each.head is None else f" head {each.head}"
    if isinstance(each, Edge):
        target = "every later token" if each.target is None else f"token {each.target}"
        return f"{target} does not see token {each.source} ({layer}{head})"
    return f"{name_of(each)} {_STATES[each.by]}"


def name_of(each: Knockout) -> str:
    """The part that is knocked out, such as "layer 3 head 2" or "layer 3 MLP"."""
    which = {"head": f" head {each.head}", "layer": "", "attention": " attention", "mlp": " MLP"}
    return f"layer {each.layer}{which[each.part]}"


def _quoted(text: str) -> str:
    shown = one_line(text)
    return f'"{shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"}"'


def head_state(changes: Sequence[Intervention], layer: int, head: int) -> str:
    """What happened to a head: "muted", "replaced by its mean", also with its layer or all heads of
    it; empty if the network uses what the head hands on."""
    return next(
        (
            _STATES[each.by]
            for each in changes
            if isinstance(each, Knockout)
            and each.layer == layer
            and (each.part in ("attention", "layer") or each.head == head)
        ),
        "",
    )
