"""What is changed inside the network, in a few words and in files; no widgets.

gpt.interventions is imported only if something is changed, so that the first frame does not wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpt.interventions import Intervention

_MOST = 4
"""Most changes that are written out."""
_MOST_RANGES = 2
"""Most ranges of tokens that are written out."""


def said(changes: tuple[Intervention, ...], *, is_short: bool = False) -> str:
    """A few words, such as "layer 3 head 2 off, 2 edges cut"; empty for the network as it is.

    is_short: count the parts and name none.
    """
    if not changes:
        return ""
    from gpt.interventions import Edge, Knockout, Steer, name_of

    muted, averaged = (
        [each for each in changes if isinstance(each, Knockout) and each.by == by]
        for by in ("zero", "mean")
    )
    edges = sum(isinstance(each, Edge) for each in changes)
    steers = [each for each in changes if isinstance(each, Steer)]
    words = []
    for found, how in ((muted, "off"), (averaged, "at the mean")):
        if len(found) == 1 and not is_short:
            words.append(f"{name_of(found[0])} {how}")
        elif found:
            words.append(f"{len(found)} part{'s' * (len(found) > 1)} {how}")
    if edges:
        words.append(f"{edges} edge{'s' * (edges > 1)} cut")
    if steers:
        is_one = len(steers) == 1 and not is_short
        words.append(f"steered by {steers[0].strength:g}" if is_one else "steered")
    return ", ".join(words)


def described(changes: tuple[Intervention, ...], most: int = _MOST) -> str:
    """Each change in words, such as "layer 3 head 2 muted"; of many, the first ones."""
    if not changes:
        return ""
    from gpt.interventions import describe

    words = ", ".join(map(describe, changes[:most]))
    return f"{words} and {len(changes) - most} more" if len(changes) > most else words


def network(changes: tuple[Intervention, ...]) -> str:
    """A network by what is changed in it."""
    return described(changes, 2) or "whole network"


def of_network(shown: tuple[Intervention, ...], acting: tuple[Intervention, ...]) -> str:
    """Of which network numbers are: "of the network with layer 3 off"; empty if it is clear.

    shown: what is changed in that network. acting: what is changed in the one that writes.
    """
    if not shown:
        return "of the whole network" if acting else ""
    return f"of the network with {said(shown)}"


def stretch(places: Sequence[int]) -> str:
    """Indices of tokens in words, such as "tokens 3–7, 9"; of many ranges only how many tokens."""
    known = set(places)
    begins = [i for i in places if i - 1 not in known]
    ends = [i for i in places if i + 1 not in known]
    if len(begins) > _MOST_RANGES:
        return f"{len(places)} tokens"
    ranges = (f"{a}–{b}" if a < b else f"{a}" for a, b in zip(begins, ends, strict=True))
    return f"token{'s' * (len(places) > 1)} {', '.join(ranges)}"


def without(
    changes: tuple[Intervention, ...], ended: tuple[Intervention, ...]
) -> tuple[Intervention, ...]:
    """The changes that go on when others end."""
    return tuple(each for each in changes if each not in ended)


def carried(changes: tuple[Intervention, ...]) -> tuple[Intervention, ...]:
    """What can also act in another text: an attention edge belongs to the tokens of one text."""
    if not changes:
        return ()
    from gpt.interventions import Edge

    return tuple(each for each in changes if not isinstance(each, Edge))


def as_fields(changes: tuple[Intervention, ...]) -> dict[str, Any]:
    """The field of a request to the engine; none without a change."""
    if not changes:
        return {}
    from gpt.interventions import to_dicts

    return {"interventions": to_dicts(changes)}


class Table:
    """Several changed networks, each once, for a file: 0 is the network as it is."""

    def __init__(self, used: Iterable[tuple[Intervention, ...]]) -> None:
        different = dict.fromkeys(each for each in used if each)
        self._number = {changes: number for number, changes in enumerate(different, 1)}

    def to_line(self, changes: tuple[Intervention, ...]) -> dict[str, Any]:
        """Fields of an object that belongs to a changed network; none for the network as it is."""
        return {"inside": self._number[changes]} if changes else {}

    def to_head(self, acting: tuple[Intervention, ...] = ()) -> dict[str, Any]:
        """Fields of the head of the file: `changes`, those from number 1 on, if there are any.

        acting: what is changed now.
        """
        if not self._number:
            return {}
        from gpt.interventions import to_dicts

        lists = [to_dicts(changes) for changes in self._number]
        return {"changes": lists, **self.to_line(acting)}


def from_lists(values: Any) -> list[tuple[Intervention, ...]]:
    """The reverse of `Table.to_head`, for values from a file: a changed network for each number.

    Raises ValueError or UserError naming what is wrong.
    """
    if not values:
        return [()]
    if not isinstance(values, list):
        raise ValueError("the changes inside must be a list of lists")
    from gpt.interventions import from_dicts

    return [(), *map(from_dicts, values)]


def of_line(
    line: Mapping[str, Any], known: list[tuple[Intervention, ...]]
) -> tuple[Intervention, ...]:
    """The changed network that an object of a file names by its number; none: as it is.

    Raises ValueError if there is no such number.
    """
    number = line.get("inside", 0)
    if type(number) is not int or not 0 <= number < len(known):
        raise ValueError(f"inside cannot be {str(number)[:20]!r}")
    return known[number]
