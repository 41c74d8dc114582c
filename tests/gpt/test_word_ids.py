from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.errors import UserError
from gpt.word_ids import exactly, forms, sequences, split_boost


def encode(text: str) -> list[int]:
    return list(map(ord, text))


def test_a_word_stands_for_its_tokens_with_and_without_a_space_before() -> None:
    ab = (97, 98)
    assert sequences("ab", encode, 50257) == (ab, (32, *ab))
    assert sequences(" ab", encode, 50257) == ((32, *ab),)
    assert sequences("ab", encode, 65) == (ab,)
    assert sequences("#12", encode, 65) == ((12,),)
    assert sequences("#x", encode, 65) == ((35, 120),)


def test_bad_items_are_named() -> None:
    with pytest.raises(UserError, match="no token 65"):
        sequences("#65", encode, 65)
    with pytest.raises(UserError, match="is not a word"):
        sequences("", encode, 65)
    for item in ("king", ":2", "king:much", "king:"):
        with pytest.raises(UserError, match="like king:2"):
            split_boost(item)
    assert split_boost("a:b:-1.5") == ("a:b", -1.5)


@pytest.mark.parametrize("nats", ["1e308", "1e400", "nan", "-inf", "1001"])
def test_a_boost_out_of_range_is_refused(nats: str) -> None:
    with pytest.raises(UserError, match=r"boosted is .*; it must be a number from -1000 to 1000"):
        split_boost(f"king:{nats}")


def test_an_id_with_thousands_of_digits_is_refused() -> None:
    with pytest.raises(UserError, match="there is no token 99999"):
        sequences("#" + "9" * 5000, lambda word: [1], 29)


@given(st.text(min_size=1), st.sampled_from([29, 50_257]))
def test_a_text_in_quotes_is_only_itself(text: str, vocab_size: int) -> None:
    assert forms(exactly(text), vocab_size) == [text]


@pytest.mark.parametrize("item", ['"', '""', '"king', 'king"', '"a"b"', '"\\ud800"'])
def test_quotes_that_enclose_nothing_are_letters(item: str) -> None:
    assert forms(item, 50_257) == [item, f" {item}"]
