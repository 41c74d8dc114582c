from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gpt.sanitize import sanitize
from tui.wrap import TAB, Rows

tokens = st.lists(
    st.one_of(st.text(alphabet="ab \n\t你🦊\u0301", max_size=12), st.text(max_size=5)), max_size=30
)


def rows(texts: list[str], width: int) -> Rows:
    made = Rows(width)
    for text in texts:
        made.append(text)
    return made


def lines(texts: list[str], width: int) -> list[str]:
    made = rows(texts, width)
    return ["".join(text for _, text in made[i]) for i in range(len(made))]


def test_breaks_behind_spaces_and_at_line_breaks() -> None:
    assert lines(["the quick ", "brown", " fox\n", "jumps"], 12) == [
        "the quick ",
        "brown fox ",
        "jumps",
    ]
    assert lines(["abcdefghij"], 6) == ["abcde", "fghij"]
    assert lines(["abcde "], 6) == ["abcde "]
    assert lines(["你好你好"], 6) == ["你好", "你好"]
    assert lines([" 你好"], 4) == [" ", "你", "好"]


def test_a_word_of_many_tokens_moves_as_one() -> None:
    made = rows(["ab", " ", "c", "d", "e", "f"], 6)
    assert [made[i] for i in range(len(made))] == [
        [(0, "ab"), (1, " ")],
        [(2, "c"), (3, "d"), (4, "e"), (5, "f")],
    ]
    assert made.first_row == [0, 0, 1, 1, 1, 1]


@given(tokens, st.integers(2, 40))
def test_every_character_is_shown_once_and_in_its_tokens_place(
    texts: list[str], width: int
) -> None:
    made = rows(texts, width)
    shown = [""] * len(texts)
    seen: list[int] = []
    for i in range(len(made)):
        for index, text in made[i]:
            shown[index] += text
            seen.append(index)
    assert shown == [sanitize(t).replace("\t", TAB).replace("\n", " ") for t in texts]
    assert seen == sorted(seen)
    assert set(seen) == set(range(len(texts)))


@given(tokens, st.integers(2, 40))
def test_rows_fit_and_tokens_are_found_where_they_begin(texts: list[str], width: int) -> None:
    made = rows(texts, width)
    for i in range(len(made)):
        text = "".join(text for _, text in made[i]).rstrip(" ")  # blanks may hang over
        assert sum(cell_len(c) for c in text) <= max(width - 1, 2)
    for index, row in enumerate(made.first_row):
        assert index in [i for i, _ in made[row]]
        assert row == 0 or index not in [i for i, _ in made[row - 1]]


@given(tokens, tokens, st.integers(2, 40))
def test_finished_rows_never_change(first: list[str], more: list[str], width: int) -> None:
    made = rows(first, width)
    before = [made[i] for i in range(len(made) - 1)]
    for text in more:
        made.append(text)
    assert [made[i] for i in range(len(before))] == before
    assert [made[i] for i in range(len(made))] == [
        row
        for rebuilt in [rows(first + more, width)]
        for row in map(rebuilt.__getitem__, range(len(rebuilt)))
    ]
