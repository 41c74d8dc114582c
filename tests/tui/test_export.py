from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from datetime import datetime
from html.parser import HTMLParser
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from gpt.errors import UserError
from gpt.sanitize import sanitize
from gpt.settings import Sampling
from gpt.step import Candidate, Step
from tui.document import Document
from tui.export.formats import FORMATS, write
from tui.export.page import to_html
from tui.export.parts import Export, Part, every, shown, starred
from tui.export.picture import to_svg
from tui.export.plain import to_json, to_markdown, to_text
from tui.node import Remark

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


NOW = datetime(2026, 1, 2, 3, 4, 5)


def of(parts: Sequence[Part], model: str = "fake") -> Export:
    """What is written."""
    return Export(parts, model, NOW)


VOID = {"meta", "input"}


class Page(HTMLParser):
    """The texts of a page, one a branch, without what is shown only where one points."""

    def __init__(self) -> None:
        super().__init__()
        self.texts, self._open = list[str](), list[str]()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._open += [] if tag in VOID else [tag]
        if tag == "section":
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["b"]:
            self.texts[-1] += data


def of_page(page: str) -> list[str]:
    reader = Page()
    reader.feed(page)
    return reader.texts


def sections(page: str) -> list[tuple[str, str]]:
    """Heading and text of each part of a Markdown file, with the headings of its branches."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page)
    found, heading = list[tuple[str, str]](), ""
    for token, after in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open" and after:
            heading = after.content
            if heading.startswith("`"):
                found.append((heading, ""))
        elif token.type == "fence":
            found.append((heading, token.content.removesuffix("\n")))
    return found


def of_markdown(page: str, count: int) -> list[str]:
    texts = [""] if count == 1 else []
    for heading, text in sections(page):
        if heading.startswith("`"):
            texts.append("")
        texts[-1] += text
    return texts


def of_text(page: str, count: int) -> list[str]:
    if count == 1:
        return [page]
    rule = page[: page.index(" ")]
    return [each.partition("\n")[2] for each in ("\n" + page).split(f"\n{rule} ")[1:]]


def of_json(page: str, count: int) -> list[str]:
    found: Any = json.loads(page)
    assert isinstance(found, list) == (count > 1)
    return [str(trace["text"]) for trace in (found if count > 1 else [found])]


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


SAYS: dict[str, tuple[Callable[[str, int], list[str]], Callable[[str], str]]] = {
    ".txt": (of_text, str),
    ".json": (of_json, str),
    ".html": (lambda page, _: of_page(page), sanitize),
    ".md": (of_markdown, sanitize),
}
"""How the texts are read from a file of each format, and what each must be."""


def every_name(document: Document, names: list[str]) -> list[Part]:
    """All branches, some of them with a star and a name."""
    for branch, name in zip(document.all_branches(), names, strict=False):
        document.set_remark(branch.end, Remark(is_starred=True, name=name, note=name))
    return every(document)


@pytest.mark.parametrize("suffix", [*SAYS])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=EDITS, names=st.lists(st.sampled_from([HOSTILE, "", "-" * 20, "a\nb"]), max_size=3))
@example(edits=[("append", PARTS.index(b"\xc3"))], names=[])
@example(edits=[("append", 0), ("cut", 0), ("append", 1)], names=["-" * 9])
def test_every_format_says_the_documents_own_text_for_every_branch(
    tmp_path: Path, suffix: str, edits: list[tuple[str, int]], names: list[str]
) -> None:
    document, path = tree_of(edits), tmp_path / f"a{suffix}"
    read, expected = SAYS[suffix]
    for parts in (every_name(document, names), shown(document), starred(document)):
        texts = [b"".join(n.step.bytes for n in p.nodes).decode("utf-8", "replace") for p in parts]
        if texts:
            write(path, of(parts))
            written = path.read_bytes().decode()
            path.unlink()
            assert read(written, len(texts)) == [*map(expected, texts)]


@settings(max_examples=40)
@given(edits=EDITS)
def test_the_picture_says_every_text(edits: list[tuple[str, int]]) -> None:
    document = tree_of(edits)
    parts = every(document)
    if len(parts) == 1:
        assert words(of_picture(to_svg(of(parts)))) == words(sanitize(parts[0].text))
    elif parts:
        expected = "".join(part.title + sanitize(part.text) for part in parts)
        assert words(of_picture(to_svg(of(parts)))) == words(expected)


def parts_of(edits: list[tuple[str, int]]) -> list[Part]:
    return shown(tree_of(edits))


@given(EDITS)
def test_markdown_has_the_prompt_and_what_follows(edits: list[tuple[str, int]]) -> None:
    (part,) = parts_of(edits)
    written = sections(to_markdown(of([part])))
    writers = [is_prompt for is_prompt, _ in groupby(node.is_prompt for node in part.nodes)]
    expected = ["Prompt"] * (True in writers[:1]) + ["The model"] * (False in writers)
    assert [name for name, _ in written] == expected
    assert "".join(text for _, text in written) == sanitize(part.text)


def test_what_was_inserted_stands_in_the_text_and_is_counted() -> None:
    document = Document()
    for text, is_prompt in (("Once ", True), ("upon a ", False), ("dark ", True), ("time", False)):
        document.append([Step(0, len(text), text.encode(), text)], is_prompt=is_prompt)
    found = to_markdown(of(shown(document)))
    assert sections(found) == [("Prompt", "Once "), ("The model", "upon a dark time")]
    assert "\nOf these tokens, 1 was given, not drawn.\n" in found


@given(EDITS)
def test_the_table_has_a_row_of_four_cells_for_every_token(edits: list[tuple[str, int]]) -> None:
    parts = parts_of(edits)
    path = parts[0].nodes
    tokens = MarkdownIt("commonmark").enable("table").parse(to_markdown(of(parts)))
    assert len([each for each in tokens if each.type == "td_open"]) == 4 * min(20, len(path))
    cells = [e.children[0] for e in tokens if e.type == "inline" and e.level == 4 and e.children]
    assert sum(each.type == "code_inline" for each in cells) == min(20, len(path))


@pytest.mark.parametrize(
    "name", ["x" * 300 + ".txt", "a\0.txt", "a\ud800.txt", "link.txt", "pipe.txt", "a.txt/b.txt"]
)
def test_a_name_that_cannot_be_written_is_one_sentence(
    parts: list[Part], tmp_path: Path, name: str
) -> None:
    (tmp_path / "link.txt").symlink_to(tmp_path / "link.txt")
    (tmp_path / "a.txt").touch()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.txt")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"cannot write|exists already"):
        write(tmp_path / name, of(parts))
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_leaves_no_half_file(
    parts: list[Part], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        write(tmp_path / "a.txt", of(parts))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def parts() -> list[Part]:
    document = Document()
    document.append([Step(0, 5, b"Once", "Once")], is_prompt=True)
    candidates = (
        Candidate(6, HOSTILE.encode(), math.log(0.02), math.log(0.5)),
        Candidate(7, b"\xff", math.log(0.01), None),
    )
    data = HOSTILE.encode()
    drawn = Step(1, 6, data, HOSTILE, math.log(0.02), 3, 2.5, candidates, math.log(0.5))
    document.append([drawn], is_prompt=False, sampling=Sampling(temperature=0.8, seed=7))
    return shown(document)


def test_every_format_is_written_once_and_never_over_another_file(
    parts: list[Part], tmp_path: Path
) -> None:
    for suffix in FORMATS:
        path = tmp_path / f"a{suffix}"
        write(path, of(parts))
        before = path.read_bytes()
        assert before
        with pytest.raises(UserError, match="exists already"):
            write(path, of(parts))
        assert path.read_bytes() == before
    with pytest.raises(UserError, match=r"must end with one of \.txt"):
        write(tmp_path / "a.pdf", of(parts))
    with pytest.raises(UserError, match="cannot write"):
        write(tmp_path / "no" / "a.txt", of(parts))


def test_plain_text_is_the_text(parts: list[Part]) -> None:
    assert to_text(of(parts)) == "Once" + HOSTILE


def test_the_trace_holds_every_step_and_its_settings(parts: list[Part]) -> None:
    trace = json.loads(to_json(of(parts)))
    assert trace["text"] == "Once" + HOSTILE and trace["model"] == "fake"
    assert [token.pop("is_prompt") for token in trace["tokens"]] == [True, False]
    assert [token.pop("author") for token in trace["tokens"]] == ["person", "model"]
    assert [token.pop("setting") for token in trace["tokens"]] == [None, 0]
    assert [Sampling.from_dict(s) for s in trace["settings"]] == [Sampling(temperature=0.8, seed=7)]
    assert [Step.from_dict(t) for t in trace["tokens"]] == [n.step for n in parts[0].nodes]


def test_the_page_has_numbers_and_candidates_and_runs_nothing(parts: list[Part]) -> None:
    page = to_html(of(parts, "<model>"))
    assert "<script" not in page and "\x1b" not in page and "http" not in page.replace("http-", "")
    assert "&lt;script&gt;" in page and "&lt;model&gt;" in page
    assert "2.00 %, rank 3" in page and "sampled at 50.0 % after settings" in page
    assert "temperature 0.8, seed 7" in page and "2026-01-02 03:04" in page
    assert "First token: nothing to predict it from" in page
    assert page.count('class="t h') == 2 and page.count('tabindex="0"') == 2
    assert "<nav" not in page


def test_a_page_of_several_branches_has_a_menu_to_each(parts: list[Part]) -> None:
    both = [*parts, Part(2, parts[0].nodes, Remark(is_starred=True, name=HOSTILE, note=HOSTILE))]
    page = to_html(of(both))
    assert "<script" not in page and "★ &lt;script&gt;" in page
    for part in both:
        assert page.count(f'href="#branch-{part.number}"') == 1
        assert page.count(f'id="branch-{part.number}"') == 1


def test_markdown_cannot_be_broken_out_of(parts: list[Part]) -> None:
    named = [Part(1, parts[0].nodes, Remark(is_starred=True, name=HOSTILE, note=HOSTILE))]
    page = to_markdown(of(named * 2, "<b>`fake`"))
    assert "````\n" in page and "\x1b" not in page
    html = MarkdownIt("commonmark").enable("table").render(page)
    assert "<b>" not in html and "<script" not in html
    assert "2.00 % | 3 |" in page


def test_the_picture_is_xml(parts: list[Part]) -> None:
    assert ElementTree.fromstring(to_svg(of(parts))).tag.endswith("svg")  # noqa: S314
