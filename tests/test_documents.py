"""The documents: links lead somewhere, every picture is shown, and a drawing has what was drawn."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.drawing import SHAPES, H, W, picture, rows
from docs.pictures import PICTURES
from docs.recording import RATE, frames

ROOT = Path(__file__).parent.parent
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def _links(page: Path) -> list[tuple[Path, str]]:
    """File and heading of each link to a file of ours."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = [link.partition("#") for link in _LINK.findall(text) if "://" not in link]
    return [((page.parent / path).resolve() if path else page, part) for path, _, part in found]


def _headings(page: Path) -> set[str]:
    """The anchors that GitHub gives to headings."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, heading in _links(page):
        assert target.exists(), target
        assert not heading or heading in _headings(target), (target, heading)


def test_every_picture_is_shown_and_can_be_taken_again() -> None:
    shown = {target.stem for page in PAGES for target, _ in _links(page) if target.suffix == ".svg"}
    assert {path.stem for path in (ROOT / "docs").glob("*.svg")} == shown
    assert shown == {*PICTURES, "recording"}


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=9)))
def test_a_drawing_has_every_letter_at_its_place(lines: list[str]) -> None:
    screen = pyte.Screen(20, 10)
    pyte.Stream(screen).feed("\r\n".join(lines[:10]))
    cells = rows(screen)
    drawn = ElementTree.fromstring(picture(cells, "title"))  # noqa: S314
    name, letters = "{http://www.w3.org/2000/svg}", ""
    for group in drawn.iter(f"{name}g"):
        if place := re.fullmatch(r"translate\(0 ([\d.]+)\)", group.get("transform", "")):
            row = cells[round(float(place[1]) / H)]
            for text in group.iter(f"{name}text"):
                begin = round(float(text.get("x", "")) / W)
                assert text.text and "".join(cell.text for cell in row[begin:]).startswith(
                    text.text
                )
                letters += text.text
    written = "".join(cell.text for row in cells for cell in row if cell.text not in SHAPES)
    assert letters.replace(" ", "") == written.replace(" ", "")


def test_the_drawing_of_the_recording_misses_no_scene() -> None:
    lines: list[Any] = [{"version": 2, "width": 20, "height": 4}]
    for i in range(60):  # faster than the drawing may be, with a scene now and then
        if i % 20 == 0:
            lines.append([i / 20, "m", f"scene {i}"])
        lines.append([i / 20, "o", f"\x1b[1;1H{i}"])
    lines.append([5.0, "m", ""])
    shown, end = frames(lines)
    says = {data for _, kind, data in lines[1:] if kind == "m" and data}
    assert {frame.says for frame in shown} - {""} == says
    gaps = [b.time - a.time for a, b in pairwise(shown)]
    assert min(gaps) > 0 and len(shown) / end <= RATE
