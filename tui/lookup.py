"""Find entries by words as people type them: beginnings, synonyms, typing errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol, TypeVar

_EMPTY = frozenset("a an and are by do does for how i in is it of on or the this to what".split())
"""Words that say nothing about what is wanted."""
_IN_NAME, _IN_SYNONYMS, _IN_SENTENCE = 1.0, 0.8, 0.5
_BEGINS = 0.1
"""How far an entry is put before others if its name begins with the query."""
_LEAST = 0.3
"""Share of the best entry's relevance that an entry needs."""


class Entry(Protocol):
    """Something that can be found."""

    @property
    def name(self) -> str:
        """A few words."""

    @property
    def synonyms(self) -> str:
        """More words for it."""

    @property
    def sentence(self) -> str:
        """What it is or does."""

    @property
    def written(self) -> Sequence[str]:
        """Its keys, as a person writes them."""


E = TypeVar("E", bound=Entry)


def find(query: str, entries: Iterable[E]) -> list[tuple[float, E]]:
    """The entries that answer a query, the most relevant first, with their relevance.

    Entries that only resemble the query are left out if others have its words.
    """
    found = [(relevance(query, entry), entry) for entry in entries]
    least = _LEAST * max((score for score, _ in found), default=0.0)

    def order(pair: tuple[float, E]) -> float:
        begins = pair[1].name.lower().startswith(query.strip().lower())
        return -pair[0] - _BEGINS * begins

    return sorted((pair for pair in found if pair[0] and pair[0] >= least), key=order)


def relevance(query: str, entry: Entry) -> float:
    """From 0, if a word of the query is nowhere in the entry, to 3 if it is the entry's key."""
    wanted = query.strip()
    if wanted in entry.written:
        return 3.0
    if any(wanted.lower() == key.lower() for key in entry.written if len(key) > 1):
        return 2.5
    if wanted.lower() == entry.name.lower():
        return 2.0
    asked = _words(wanted)
    asked = tuple(word for word in asked if word not in _EMPTY) or asked
    if not asked:
        return 0.0
    parts = (
        (_IN_NAME, entry.name),
        (_IN_SYNONYMS, entry.synonyms),
        (_IN_SENTENCE, entry.sentence),
    )
    total = 0.0
    for word in asked:
        best = max(weight * _likeness_to_any(word, text) for weight, text in parts)
        if not best:
            return 0.0
        total += best
    return total / len(asked)


@lru_cache(4096)
def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", text.lower()))


def _likeness_to_any(word: str, text: str) -> float:
    return max((_likeness(word, other) for other in _words(text)), default=0.0)


@lru_cache(2**14)
def _likeness(typed: str, word: str) -> float:
    """From 0 to 1, how probable it is that somebody who typed this means the word."""
    if typed == word:
        return 1.0
    if typed == f"{word}s":
        return 0.95
    if word.startswith(typed):
        return 0.7 + 0.2 * len(typed) / len(word)
    if len(word) >= 4 and typed.startswith(word):
        return 0.7  # a plural
    if len(typed) >= 3 and typed in word:
        return 0.5
    allowed = 0 if len(typed) < 4 else 1 if len(typed) < 8 else 2
    if abs(len(typed) - len(word)) <= allowed and _errors(typed, word) <= allowed:
        return 0.45
    if len(typed) >= 4 and typed[0] == word[0] and _is_part(typed, word):
        return 0.35
    return 0.0


def _is_part(typed: str, word: str) -> bool:
    """Whether a word has these letters in this order, and not many others between them."""
    rest = iter(word)
    return 2 * len(typed) >= len(word) and all(letter in rest for letter in typed)


def _errors(a: str, b: str) -> int:
    """Fewest letters to add, drop, change or swap with a neighbour (Damerau 1964)."""
    before: list[int] = []
    last, now = before, list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, last, now = last, now, [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, now[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            now.append(cost)
    return now[-1]
