"""Drafting by prompt lookup: which calls of the network a text would need.

If the last tokens of a text stood there before, those that followed them are a draft of the next
ones (Saxena 2023; vLLM's n-gram drafting). One call reads the last token and the draft. A drafted
token is accepted if it is the one that is drawn anyway, so the path alone says how many are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

SUFFIXES = (4, 3, 2)
"""Numbers of tokens at the end of a text that are looked up, the longest first."""


class Call(NamedTuple):
    """One call of the network, which reads the last token of a text and a draft after it."""

    drafted: list[int]
    new: list[int]
    """Tokens that are known afterwards: the accepted part of the draft, and one more."""


def lookup(ids: Sequence[int], k: int) -> list[int]:
    """A draft of k tokens after ids, or none; a repetition shorter than k goes on in the draft."""
    for size in SUFFIXES:
        end = ids[-size:]
        for start in range(len(ids) - size - 1, -1, -1):
            if ids[start : start + size] == end:
                followed = ids[start + size :]
                return [followed[i % len(followed)] for i in range(k)]
    return []


def calls(prompt: list[int], drawn: list[int], k: int, limit: int) -> list[Call]:
    """The calls that draw a text with drafts of at most k tokens. limit: most tokens to draw."""
    found, done = list[Call](), 0
    while done < len(drawn):
        drafted = lookup(prompt + drawn[:done], min(k, limit - done - 1))
        rest = drawn[done:]
        same = 0
        while same < min(len(drafted), len(rest)) and drafted[same] == rest[same]:
            same += 1
        found.append(Call(drafted, rest[: same + 1]))
        done += len(found[-1].new)
    return found


def summary(found: Sequence[Call]) -> dict[str, float]:
    """Counts and means of the calls of several texts."""
    n_calls, n_tokens = len(found), sum(len(call.new) for call in found)
    n_drafted = sum(len(call.drafted) for call in found)
    means = {
        "tokens_per_call": n_tokens / n_calls,
        "calls_with_draft": sum(bool(call.drafted) for call in found) / n_calls,
        "width": 1 + n_drafted / n_calls,
    }
    rounded = {name: round(value, 3) for name, value in means.items()}
    return {"tokens": n_tokens, "calls": n_calls, **rounded}


def speed(found: Sequence[Call], times: Mapping[str, float], draw: str) -> float:
    """Tokens per second with these calls / with a call for each token.

    times: of a call by the number of tokens that it reads, as a decimal, and of one draw by its
    name. Between two of these numbers, time grows evenly.
    """
    widths = [int(name) for name in times if name.isdecimal()]
    n_tokens = sum(len(call.new) for call in found)
    taken = n_tokens * times[draw]
    for call in found:
        width = 1 + len(call.drafted)
        above = min(n for n in widths if n >= width)
        below = max(n for n in widths if n <= width)
        share = (width - below) / max(1, above - below)
        taken += (1 - share) * times[str(below)] + share * times[str(above)]
    return round(n_tokens * (times["1"] + times[draw]) / taken, 3)
