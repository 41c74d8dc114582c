from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from gpt.sanitize import sanitize
from tui.wrap import TAB, Rows, cells

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
        "brown fox\n",
        "jumps",
    ]
    assert lines(["abcdefghij"], 6) == ["abcde", "fghij"]
    assert lines(["abcde "], 6) == ["abcde "]
    assert lines(["你好你好"], 6) == ["你好", "你好"]
    assert lines([" 你好"], 4) == [" ", "你", "好"]
    assert lines(["a\tb"], 9) == ["a" + TAB + "b"] and cells(TAB) == 4


def test_a_line_break_never_stands_alone_behind_spaces() -> None:
    assert lines(["ab cde \nf"], 7) == ["ab ", "cde \n", "f"]
    assert lines(["ab cde ", "", "\n", "f"], 7) == ["ab ", "cde \n", "f"]
    assert lines(["abcde \n"], 6) == ["abcde ", "\n", ""]  # no earlier space to break at


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
    assert shown == [sanitize(t).replace("\t", TAB) for t in texts]
    assert seen == sorted(seen)
    assert set(seen) == set(range(len(texts)))


@given(tokens, st.integers(2, 40))
def test_rows_fit_and_tokens_are_found_where_they_begin(texts: list[str], width: int) -> None:
    made = rows(texts, width)
    for i in range(len(made)):
        text = "".join(text for _, text in made[i])
        assert cells(text) <= width
        # Letters leave one cell for a line break; a wide one may need two cells.
        assert cells(text.rstrip(" \n")) <= max(width - 1, 2)
        assert "\n" not in text[:-1]
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


@given(tokens, st.integers(2, 40))
def test_a_row_ends_at_a_space_if_it_has_one(texts: list[str], width: int) -> None:
    found = lines(texts, width)
    for row in found[:-1]:
        assert row.endswith((" ", "\n")) or " " not in row


@given(tokens, st.integers(2, 40))
def test_how_the_text_is_cut_into_tokens_does_not_matter(texts: list[str], width: int) -> None:
    assert lines(texts, width) == lines(["".join(texts)], width)


@given(tokens, st.integers(2, 40))
def test_the_first_letter_of_a_token_is_in_its_letter_row(texts: list[str], width: int) -> None:
    made = rows(texts, width)
    for index in range(len(texts)):
        shown = {
            row: "".join(part for each, part in made[row] if each == index).strip(" \n\t")
            for row in made.rows_of(index)
            if row < len(made)
        }
        lettered = [row for row, text in shown.items() if text]
        assert made.letter_row(index) == min(lettered, default=made.row_of(index))


@given(tokens, st.integers(2, 40))
def test_the_cell_where_a_token_begins_belongs_to_it(texts: list[str], width: int) -> None:
    made = rows(texts, width)
    for index, text in enumerate(texts):
        row, column = made.row_of(index), made.column_of(index)
        assert row in made.rows_of(index)
        shown = dict(made[row])[index]
        if cells(shown[:1]):  # nothing, or an accent, has no cell
            assert made.token_at(row, column) == index
            assert made.token_at(row, column + cells(shown) - 1) == index
        assert text is texts[index]
    assert made.token_at(len(made), 0) is made.token_at(-1, 0) is None


def test_a_new_token_costs_the_same_in_a_long_text() -> None:
    """Counted in calls, whose number no busy machine changes."""

    def calls(length: int) -> int:
        made = rows([f"word{i} " for i in range(length)], 60)
        count = 0

        def count_calls(*_: object) -> None:
            nonlocal count
            count += 1

        before = sys.getprofile()
        sys.setprofile(count_calls)
        for _ in range(30):
            made.append("and on ")
        sys.setprofile(before)
        return count

    assert calls(20_000) <= 1.5 * calls(200)
