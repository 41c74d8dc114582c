from __future__ import annotations

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from gpt.errors import UserError
from gpt.step import Candidate, Step
from tui import export
from tui.document import Document, Node

HOSTILE = '<script>alert("x")</script>\x1b[31m```|`[b]'


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
        with pytest.raises(UserError, match="is there already"):
            export.write(path, nodes, "fake")
        assert path.read_bytes() == before
    with pytest.raises(UserError, match=r"should end with one of \.txt"):
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
    assert "the first token has no context" in page
    assert page.count('class="t h') == 2


def test_markdown_cannot_be_broken_out_of(nodes: list[Node]) -> None:
    page = export.to_markdown(nodes, "fake")
    assert "````\n" in page and "\x1b" not in page
    assert "2.00 % | 3 |" in page


def test_the_picture_is_xml(nodes: list[Node]) -> None:
    assert ElementTree.fromstring(export.to_svg(nodes, "fake")).tag.endswith("svg")  # noqa: S314
