from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.step import Step
from tui.align import align, bits_per_character


def reading(*texts: str, first: float | None = None) -> list[Step]:
    return [
        Step(i, i, text.encode(), text, first if i == 0 else -float(len(text)))
        for i, text in enumerate(texts)
    ]


def test_stretches_end_where_tokens_of_both_end() -> None:
    spans = align(reading("to", " b", "e", " or"), reading("t", "o", " be", " or"))
    assert [(list(s.own), list(s.other), s.text) for s in spans] == [
        ([0], [0, 1], b"to"),
        ([1, 2], [2], b" be"),
        ([3], [3], b" or"),
    ]
    assert [s.own_nats for s in spans] == [None, 3.0, 3.0]


def test_tokens_without_text_belong_to_the_stretch_behind_them() -> None:
    spans = align(reading("", "a", "b"), reading("a", "b", first=None))
    assert [(list(s.own), list(s.other)) for s in spans] == [([0, 1], [0]), ([2], [1])]
    assert (spans[0].own_nats, spans[0].other_nats, spans[0].gap) == (1.0, None, None)
    assert spans[1].gap == 0


def test_bits_per_character_are_of_what_both_could_read() -> None:
    own, other = reading("é", "ab"), reading("é", "a", "b")
    own[1] = Step(1, 1, b"ab", "ab", 4 * -math.log(2))
    spans = align(own, other)
    assert bits_per_character(spans) == pytest.approx((2, 1 / math.log(2)))
    assert bits_per_character(align(reading("a"), reading("a"))) is None


texts = st.lists(st.text("aé ", max_size=3), max_size=12)


@given(texts, texts)
def test_every_token_is_in_exactly_one_stretch(a: list[str], b: list[str]) -> None:
    text = "".join(a)
    own = reading(*a)
    for other in (reading(*text), reading(text), reading(*b)):
        spans = align(own, other)
        assert [i for span in spans for i in span.own] == list(range(len(own)))
        assert [i for span in spans for i in span.other] == list(range(len(other)))
    characters = align(own, reading(*text))
    assert len(characters) <= max(1, len(a))
