from __future__ import annotations

import pytest

from gpt.errors import UserError
from gpt.words import sequences, split_boost


def encode(text: str) -> list[int]:
    return list(map(ord, text))


def test_a_word_is_meant_with_and_without_the_space_before_it() -> None:
    ab = (97, 98)
    assert sequences("ab", encode, 50257) == (ab, (32, *ab))
    assert sequences(" ab", encode, 50257) == ((32, *ab),)
    assert sequences("ab", encode, 65) == (ab,)
    assert sequences("#12", encode, 65) == ((12,),)
    assert sequences("#x", encode, 65) == ((35, 120),)


def test_bad_items_are_named() -> None:
    with pytest.raises(UserError, match="no token 65"):
        sequences("#65", encode, 65)
    with pytest.raises(UserError, match="no word"):
        sequences("", encode, 65)
    for item in ("king", ":2", "king:much", "king:"):
        with pytest.raises(UserError, match="like king:2"):
            split_boost(item)
    assert split_boost("a:b:-1.5") == ("a:b", -1.5)
