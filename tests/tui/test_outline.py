"""The branches as rows: all tokens once, guides that fit, names where they belong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpt.interventions import Knockout
from gpt.step import Step
from tests.tui.test_document import EDITS, edited, step, tokens
from tui.document import Document
from tui.node import NOTHING, Remark
from tui.outline import DEEPEST, rows, title


@given(EDITS)
def test_the_rows_have_every_token_once_and_every_branch_ends_in_one(
    edits: list[tuple[str, int]],
) -> None:
    document = edited(edits)
    found = rows(document)
    assert [node for row in found for node in row.nodes] == list(document.nodes())
    ends = [(row.nodes[-1], row.remark) for row in found if row.ends]
    assert ends == [(branch.end, branch.remark) for branch in document.all_branches()]
    assert all(row.ends or len(row.nodes[-1].children) > 1 for row in found)
    assert all(row.ends or row.remark == NOTHING for row in found)
    shown = {node for row in found if row.is_shown for node in row.nodes}
    assert set(document.path) <= shown
    assert all(len(row.guides) <= 2 * DEEPEST for row in found)


def test_a_row_continues_the_one_that_its_guides_lead_to() -> None:
    document = Document()
    for at, ids in ((0, (0, 1)), (1, (2,)), (2, (3,)), (2, (4,)), (0, (5,))):
        document.cut(at)
        document.append(tokens(*ids), is_prompt=False)
        if at == 1:
            document.append(tokens(1), is_prompt=False)
    assert [row.guides + row.text for row in rows(document)] == [
        "a",
        "├ b",
        "└ c",
        "  ├ b",
        "  ├ d",
        "  └ e",
        "f",
    ]


def test_a_row_says_how_the_word_began_that_the_fork_cuts() -> None:
    document = Document()
    begins = ["the", " k", "i"]
    document.append([step(1)._replace(bytes=t.encode(), text=t) for t in begins], is_prompt=True)
    for id, word in enumerate(("ng", "ck", " s", "\n")):
        document.cut(3)
        document.append([step(id)._replace(bytes=word.encode(), text=word)], is_prompt=False)
    assert [row.word for row in rows(document)] == ["", "ki", "ki", "", ""]


def test_a_tree_of_thousands_of_forks_is_drawn() -> None:
    document = Document()
    for i in range(3000):
        document.append([step(i % 7), step(20 + i % 5)], is_prompt=False)
        document.cut(len(document.path) - 1)
    found = rows(document)
    assert len(found) > 3000
    assert all(len(row.guides) <= 2 * DEEPEST for row in found)


@given(st.text(max_size=5))
def test_the_text_of_a_row_is_one_line_and_safe(said: str) -> None:
    document = Document()
    document.append([step(0)], is_prompt=True)
    document.set_remark(document.path[0], Remark(is_starred=True, name="\x1b\n" + said))
    assert all(c.isprintable() for c in title(document))
    assert title(document).startswith("★ ␛⏎")


def test_the_title_says_which_branch() -> None:
    document = Document()
    assert title(document) == ""
    document.append(tokens(0, 1), is_prompt=True)
    assert title(document) == ""
    document.cut(1)
    document.append(tokens(2), is_prompt=False)
    assert title(document) == "branch 2 of 2"
    document.set_remark(document.path[-1], Remark(is_starred=True, name="mine"))
    assert title(document) == "branch 2 of 2 ★ mine"
    muted = (Knockout(part="mlp", layer=1),)
    document.append(tokens(3, 4), is_prompt=False, changes=muted)
    assert title(document) == "branch 2 of 2 ★ mine · tokens 2–3: layer 1 MLP off"
    document.append(tokens(5), is_prompt=False)
    document.append(tokens(6), is_prompt=False, changes=muted)
    assert title(document).endswith("tokens 2–3, 5: layer 1 MLP off")
    averaged = (Knockout(part="mlp", layer=1, by="mean"),)
    document.append(tokens(7), is_prompt=False, changes=averaged)
    assert title(document).endswith("layer 1 MLP off · token 6: layer 1 MLP at the mean")
    document.append(tokens(8), is_prompt=False, changes=muted + averaged)
    assert title(document).endswith(" · 5 tokens: 3 changed networks")
    assert document.n_networks == 4  # with the whole one
    document.cut(1)
    assert "off" not in title(document) and document.n_networks == 1


def test_a_branch_of_blanks_shows_them() -> None:
    document = Document()
    blanks = [Step(0, i, text.encode(), text, -1.0) for i, text in enumerate(" \n")]
    document.append(blanks, is_prompt=False)
    assert [row.text for row in rows(document)] == ["·⏎"]
