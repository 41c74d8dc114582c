"""Which name a person probably meant by one that does not exist."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 100
"""Most characters of a name that are compared; the time grows with the square."""


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of some names that looks most like another name; None if none looks like it.

    Leading dashes and capitals make no difference.
    """
    from difflib import get_close_matches

    known = {_letters(each): each for each in names}
    word = _letters(name)
    # difflib finds two neighbours that changed places less similar than they look in short names.
    swaps = (word[:i] + word[i : i + 2][::-1] + word[i + 2 :] for i in range(len(word)))
    found = [each for each in (word, *swaps) if each in known] or get_close_matches(word, known)
    return known[found[0]] if found else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of a sentence that refuses a name; empty if no name is near."""
    found = nearest(name, names)
    return f"; did you mean {found}?" if found else ""


def _letters(name: str) -> str:
    return name[:_LONGEST].lstrip("-").lower()
