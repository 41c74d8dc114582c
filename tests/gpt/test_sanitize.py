from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.sanitize import one_for_one, one_line, sanitize


@given(st.text())
def test_nothing_that_a_terminal_obeys_comes_through(text: str) -> None:
    for character in sanitize(text):
        assert character in "\n\t" or unicodedata.category(character) not in {
            "Cc",
            "Cf",
            "Cs",
            "Co",
            "Cn",
            "Zl",
            "Zp",
        }
    assert not {"\n", "\t"} & set(one_line(text))


@given(st.text())
def test_an_edited_field_keeps_its_length(text: str) -> None:
    shown = one_for_one(text)
    assert len(shown) == len(text)
    assert sanitize(shown) == shown.translate(dict.fromkeys(range(65024, 65040)))


@given(st.text(), st.text())
def test_a_sequence_split_over_texts_is_treated_the_same(a: str, b: str) -> None:
    assert sanitize(a) + sanitize(b) == sanitize(a + b)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text", "plain text"),
        ("é 你好 🦊 e\u0301", "é 你好 🦊 e\u0301"),
        ("\x1b]52;c;aGk=\x07", "␛]52;c;aGk=␇"),
        ("\x00\x7f\r", "␀␡␍"),
        ("\x9b2J", "<U+009B>2J"),
        ("a\u202eb", "a<U+202E>b"),
        ("\u200b\ufeff\u200d", "<U+200B><U+FEFF><U+200D>"),
        ("\ud800", "<U+D800>"),
        ("❤\ufe0f", "❤"),
        ("[/INST] [bold]", "[/INST] [bold]"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert sanitize(text) == shown
