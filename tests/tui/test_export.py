from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gpt.errors import UserError
from gpt.sanitize import sanitize
from gpt.step import Candidate, Step
from tui import export
from tui.document import Document, Node

HOSTILE = '<script>alert("x")</script>\x1b[31m```|`[b]'


PARTS = [
    b"a",
    b"  b",
    b"\n",
    b"\r\n",
    b"\t",
    b"\xc3",
    b"\xa9",
    b"\xf0\x9f",
    b"```",
    b"|",
    b"\\",
    b"",
]
PARTS += [b"<b>&amp;", b"\x1b[0m", b"\x00", "\u2028日本\u202e".encode(), b"[x](y) *z* _w_ :smile:"]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["append", "prompt", "cut", "branch", "delete"]),
        st.integers(0, len(PARTS) - 1),
    ),
    min_size=1,
    max_size=15,
)


def tree_of(edits: list[tuple[str, int]]) -> Document:
    """A text whose parts were written, drawn, cut and written again."""
    document = Document()
    for action, n in edits:
        position = len(document.path)
        if action in ("append", "prompt"):
            texts = PARTS[n], PARTS[(n + 1) % len(PARTS)]
            steps = [
                Step(position + i, PARTS.index(b), b, b.decode("utf-8", "replace"), -0.5 * n, n + 1)
                for i, b in enumerate(texts)
            ]
            document.append(steps, is_prompt=action == "prompt")
        elif action == "cut":
            document.cut(min(n, position))
        elif n < position:
            document.next_branch(n) if action == "branch" else document.delete(n)
    return document


class Page(HTMLParser):
    """The text of a page without what is shown only where one points."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self._open = "", list[str]()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["b"]:
            self.text += data


def of_page(page: str) -> str:
    reader = Page()
    reader.feed(page)
    return reader.text


def sections(page: str) -> list[tuple[str, str]]:
    """Heading and text of each part of a Markdown file."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page)
    headings = [each.content for each in tokens if each.type == "inline" and each.level == 1]
    fences = [each.content.removesuffix("\n") for each in tokens if each.type == "fence"]
    return list(zip(headings[1:], fences, strict=False))


def of_picture(page: str) -> str:
    (matrix,) = (
        each
        for each in ElementTree.fromstring(page).iter()  # noqa: S314
        if (each.get("class") or "").endswith("-matrix")
    )
    return "".join(matrix.itertext())


def words(text: str) -> str:
    """Without blanks, which a picture does not keep at the ends of its rows."""
    return "".join(text.split())


SAYS: dict[str, tuple[Callable[[str], str], Callable[[str], str]]] = {
    ".txt": (str, str),
    ".json": (lambda page: str(json.loads(page)["text"]), str),
    ".html": (of_page, sanitize),
    ".md": (lambda page: "".join(text for _, text in sections(page)), sanitize),
    ".svg": (lambda page: words(of_picture(page)), lambda text: words(sanitize(text))),
}
"""How the text is read from a file of each format, and what it must be."""


@pytest.mark.parametrize("suffix", export.FORMATS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS)
@example(edits=[("append", PARTS.index(b"\xc3"))])
def test_every_format_says_the_documents_own_text(
    tmp_path: Path, suffix: str, edits: list[tuple[str, int]]
) -> None:
    document, path = tree_of(edits), tmp_path / f"a{suffix}"
    export.write(path, document.path, "fake")
    read, expected = SAYS[suffix]
    assert read(path.read_bytes().decode()) == expected(document.text)
    path.unlink()


@given(EDITS)
def test_markdown_has_every_part_under_who_wrote_it(edits: list[tuple[str, int]]) -> None:
    document = tree_of(edits)
    writers = [node.is_prompt for node in document.path]
    parts = sections(export.to_markdown(document.path, "fake"))
    names = {True: "Prompt", False: "The model"}
    assert [name for name, _ in parts] == [names[is_prompt] for is_prompt, _ in groupby(writers)]


def test_what_was_inserted_stands_where_it_was_inserted() -> None:
    document = Document()
    for text, is_prompt in (("Once ", True), ("upon a ", False), ("dark ", True), ("time", False)):
        document.append([Step(0, len(text), text.encode(), text)], is_prompt=is_prompt)
    assert sections(export.to_markdown(document.path, "fake")) == [
        ("Prompt", "Once "),
        ("The model", "upon a "),
        ("Prompt", "dark "),
        ("The model", "time"),
    ]


@given(EDITS)
def test_the_table_has_a_row_of_four_cells_for_every_token(edits: list[tuple[str, int]]) -> None:
    path = tree_of(edits).path
    tokens = MarkdownIt("commonmark").enable("table").parse(export.to_markdown(path, "fake"))
    assert len([each for each in tokens if each.type == "td_open"]) == 4 * min(20, len(path))
    cells = [e.children[0] for e in tokens if e.type == "inline" and e.level == 4 and e.children]
    assert sum(each.type == "code_inline" for each in cells) == min(20, len(path))


@pytest.mark.parametrize(
    "name", ["x" * 300 + ".txt", "a\0.txt", "a\ud800.txt", "link.txt", "pipe.txt", "a.txt/b.txt"]
)
def test_a_name_that_cannot_be_written_is_one_sentence(
    nodes: list[Node], tmp_path: Path, name: str
) -> None:
    (tmp_path / "link.txt").symlink_to(tmp_path / "link.txt")
    (tmp_path / "a.txt").touch()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.txt")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"cannot write|exists already"):
        export.write(tmp_path / name, nodes, "fake")
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_leaves_no_half_file(
    nodes: list[Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        export.write(tmp_path / "a.txt", nodes, "fake")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def nodes() -> list[Node]:
    document = Document()
    document.append([Step(0, 5, b"Once", "Once")], is_prompt=True)
    candidates = (
        Candidate(6, HOSTILE.encode(), math.log(0.02), math.log(0.5)),
        Candidate(7, b"\xff", math.log(0.01), None),
    )
    data = HOSTILE.encode()
    drawn = Step(1, 6, data, HOSTILE, math.log(0.02), 3, 2.5, candidates, math.log(0.5))
    document.append([drawn], is_prompt=False)
    return document.path


def test_every_format_is_written_once_and_never_over_another_file(
    nodes: list[Node], tmp_path: Path
) -> None:
    for suffix in export.FORMATS:
        path = tmp_path / f"a{suffix}"
        export.write(path, nodes, "fake")
        before = path.read_bytes()
        assert before
        with pytest.raises(UserError, match="exists already"):
            export.write(path, nodes, "fake")
        assert path.read_bytes() == before
    with pytest.raises(UserError, match=r"must end with one of \.txt"):
        export.write(tmp_path / "a.pdf", nodes, "fake")
    with pytest.raises(UserError, match="cannot write"):
        export.write(tmp_path / "no" / "a.txt", nodes, "fake")


def test_plain_text_is_the_text(nodes: list[Node]) -> None:
    assert export.to_text(nodes, "fake") == "Once" + HOSTILE


def test_the_trace_holds_every_step(nodes: list[Node]) -> None:
    trace = json.loads(export.to_json(nodes, "fake"))
    assert trace["text"] == "Once" + HOSTILE
    assert [token.pop("is_prompt") for token in trace["tokens"]] == [True, False]
    assert [Step.from_dict(token) for token in trace["tokens"]] == [n.step for n in nodes]


def test_the_page_has_numbers_and_candidates_and_runs_nothing(nodes: list[Node]) -> None:
    page = export.to_html(nodes, "<model>")
    assert "<script" not in page and "\x1b" not in page
    assert "&lt;script&gt;" in page and "&lt;model&gt;" in page
    assert "2.00 %, rank 3" in page and "drawn at 50.0 % after settings" in page
    assert "first token: nothing to predict it from" in page
    assert page.count('class="t h') == 2


def test_markdown_cannot_be_broken_out_of(nodes: list[Node]) -> None:
    page = export.to_markdown(nodes, "<b>`fake`")
    assert "````\n" in page and "\x1b" not in page
    assert "<b>" not in MarkdownIt("commonmark").enable("table").render(page)
    assert "2.00 % | 3 |" in page


def test_the_picture_is_xml(nodes: list[Node]) -> None:
    assert ElementTree.fromstring(export.to_svg(nodes, "fake")).tag.endswith("svg")  # noqa: S314
