"""The table of keys and the glossary: every key says what it does, in every place once."""

from __future__ import annotations

import re
import runpy
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.keys import _character_to_key

from gpt.sanitize import one_line
from tui.glossary import TERMS, term
from tui.keys import (
    GROUPS,
    KEYS,
    PLACES,
    PROGRAM,
    Key,
    names,
    together,
    written,
    written_together,
)

ALL = (*KEYS, *PROGRAM)
DOCS = Path(__file__).parents[2] / "docs"
WORDS = (
    "token,probability,logit,log-probability,nat,bit,surprisal,entropy,equally likely,perplexity,"
    "rank,temperature,top-k,top-p,min-p,repetition penalty,seed,context window,KV cache,attention,"
    "head,layer,logit lens,attribution,residual,KL divergence,beam search,branch,greedy,base model,"
    "tokenizer,BPE,dtype,int8"
).split(",")


@pytest.mark.parametrize("key", ALL, ids=lambda key: key.id)
def test_every_key_has_a_group_a_sentence_and_words_to_find_it(key: Key) -> None:
    assert key.group in GROUPS and key.place in PLACES
    assert re.fullmatch(r"[A-Z].{20,160}\.", key.help), key.help
    assert key.synonyms.split()
    assert 0 < len(key.words) <= 20


def test_no_key_is_there_twice_in_its_place() -> None:
    counts = Counter((key.place, name) for key in ALL for name in names(key, {}))
    assert [each for each, number in counts.items() if number > 1] == []


def test_keys_with_one_sentence_are_in_one_group() -> None:
    groups: dict[str, set[str]] = {}
    for key in ALL:
        groups.setdefault(key.help, set()).add(key.group)
    assert all(len(found) == 1 for found in groups.values())
    assert sum(map(len, together(ALL))) == len(ALL)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ctrl+g", "Ctrl+G"),
        ("shift+right", "Shift+→"),
        ("left_square_bracket", "["),
        ("space", "Space"),
        ("f8", "F8"),
        ("delete", "Del"),
        ("plus", "+"),
        ("full_stop", "."),
        ("U", "U"),
        ("u", "u"),
        ("alt+U", "Alt+Shift+U"),
        ("pageup", "PgUp"),
        ("\x1b", "␛"),
    ],
)
def test_a_key_is_written_as_a_person_writes_it(name: str, shown: str) -> None:
    assert written(name) == shown


@given(st.text(max_size=12))
def test_no_name_of_a_key_breaks_a_line(name: str) -> None:
    shown = written(name)
    assert shown == one_line(shown)


@given(st.characters(codec="ascii", categories=("L", "N", "P", "S")))
def test_a_character_is_written_as_itself(character: str) -> None:
    assert written(_character_to_key(character)) == character


@given(st.lists(st.sampled_from([name for key in ALL for name in names(key, {})]), unique=True))
def test_keys_written_together_lose_no_key(keys: list[str]) -> None:
    parts = written_together(keys)
    if "–" in dict(parts):
        digits = "".join(text for text, _ in parts)
        assert (digits[0], digits[-1]) == (keys[0], keys[-1]) and "".join(keys) in "123456789"
    else:
        assert [index for _, index in parts if index is not None] == list(range(len(keys)))
    for text, index in parts:
        assert index is None or written(keys[index]).endswith(text)


def test_the_page_of_keys_is_that_of_the_table() -> None:
    page = runpy.run_path(str(DOCS / "keys.py"))["page"]()
    assert page == (DOCS / "keys.md").read_text(encoding="utf-8"), "run docs/keys.py"


@pytest.mark.parametrize("name", WORDS)
def test_the_glossary_has_the_words_of_the_field(name: str) -> None:
    found = term(name.upper())
    assert found and found.name == name


def test_every_meaning_is_one_to_three_sentences_and_no_word_is_there_twice() -> None:
    for each in TERMS:
        assert re.fullmatch(r"(?s)\S.{30,330}\.", each.meaning), each.name
        assert each.synonyms
        assert not each.source or re.search(r"(1[89]|20)\d\d", each.source), each.name
    assert len({each.name.lower() for each in TERMS}) == len(TERMS)
