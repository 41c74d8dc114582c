"""Finding by words: beginnings, synonyms, typing errors."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui.lookup import find, relevance


@dataclass(frozen=True)
class Thing:
    name: str
    sentence: str = ""
    synonyms: str = ""
    written: tuple[str, ...] = ()


TEMPERATURE = Thing("Set temperature", "Divides the logits.", "creativity", ("Ctrl+E",))
BRANCH = Thing("Next branch", "Shows another continuation.", "alternative fork", ("]",))
THINGS = [TEMPERATURE, BRANCH]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("temperature", TEMPERATURE),
        ("temp", TEMPERATURE),
        ("temprature", TEMPERATURE),  # a letter is missing
        ("tempereture", TEMPERATURE),  # another letter
        ("tepmerature", TEMPERATURE),  # two letters swapped
        ("TEMPERATURE", TEMPERATURE),
        ("creativity", TEMPERATURE),
        ("logits", TEMPERATURE),
        ("what is the temperature", TEMPERATURE),
        ("ctrl+e", TEMPERATURE),
        ("branches", BRANCH),
        ("fork", BRANCH),
        ("]", BRANCH),
        ("another branch", BRANCH),
    ],
)
def test_a_query_finds(query: str, found: Thing) -> None:
    assert [thing for _, thing in find(query, THINGS)] == [found]


@pytest.mark.parametrize("query", ["zebra", "temperature zebra", "?", "", "xy"])
def test_a_query_finds_nothing(query: str) -> None:
    assert find(query, THINGS) == []


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_query_has_a_relevance(query: str, name: str) -> None:
    assert 0 <= relevance(query, Thing(name, name, name)) <= 3


@given(st.text("abcdefgh", min_size=1, max_size=10), st.text("abcdefgh ", max_size=30))
def test_a_word_is_found_in_every_text_that_has_it(word: str, text: str) -> None:
    with_word = Thing(f"{text} {word}x")
    assert relevance(word + "x", with_word) >= relevance(word, with_word) > 0


def test_a_name_that_begins_with_the_query_comes_first() -> None:
    found = find("temp", [Thing("chat template"), Thing("temperature")])
    assert [entry.name for _, entry in found] == ["temperature", "chat template"]
