"""Texts on the disk: the same back, never half, never another program's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt.errors import UserError
from gpt.settings import Sampling
from gpt.step import Candidate, Step
from tui import store
from tui.document import Document
from tui.node import LONGEST_NAME, NOTHING, Remark
from tui.store import Place


def step(token_id: int, data: bytes = b"") -> Step:
    text = (data or bytes([97 + token_id])).decode("utf-8", "replace")
    candidates = (Candidate(token_id, b"\xff", -0.25, None), Candidate(1, b"b", -3.0, -2.5))
    return Step(0, token_id, data or text.encode(), text, -0.5, 1, 1.25, candidates, None)


def save(document: Document, place: Place, model: str = "fake") -> Path:
    place.save(model, list(document.nodes()), list(document.path))
    assert place.path
    return place.path


def shape(document: Document) -> object:
    def of(node: object) -> object:
        return (
            node.step,  # type: ignore[attr-defined]
            node.is_prompt,  # type: ignore[attr-defined]
            node.is_marked,  # type: ignore[attr-defined]
            node.last,  # type: ignore[attr-defined]
            node.sampling,  # type: ignore[attr-defined]
            node.remark,  # type: ignore[attr-defined]
            [of(child) for child in node.children],  # type: ignore[attr-defined]
        )

    return [of(root) for root in document.roots], document.ids


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["append", "prompt", "cut", "branch", "delete", "mark", "remark"]),
        st.integers(0, 5),
    ),
    max_size=25,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    EDITS,
    st.binary(min_size=1, max_size=4),
    st.builds(Remark, st.booleans(), st.text(max_size=90), st.text()),
)
def test_save_then_load_is_the_same_document(
    edits: list[tuple[str, int]], data: bytes, remark: Remark
) -> None:
    document = Document()
    document.append([step(9, data)], is_prompt=True)
    for action, n in edits:
        if action in ("append", "prompt"):
            drawn = Sampling(temperature=n / 10, banned=((n,),)) if action == "append" else None
            steps = [step(n), step((n + 1) % 6)]
            document.append(steps, is_prompt=drawn is None, sampling=drawn)
        elif action == "cut":
            document.cut(min(n, len(document.path)))
        elif 0 < n < len(document.path):
            if action == "branch":
                document.next_branch(n)
            elif action == "delete":
                document.delete(n)
            elif action == "remark":
                document.set_remark(document.path[n], remark)
            else:
                document.path[n].is_marked ^= True
    place = Place()
    path = save(document, place)
    loaded, entry = store.load(path)
    place.release()
    path.unlink()
    assert shape(loaded) == shape(document)
    said = [(b.length, b.remark) for b in document.all_branches()]
    assert [(b.length, b.remark) for b in loaded.all_branches()] == said
    assert (entry.model, entry.n_tokens) == ("fake", len(document.path))


def document_of(text: str) -> Document:
    document = Document()
    document.append([step(ord(c) - 97, c.encode()) for c in text], is_prompt=False)
    return document


def test_an_empty_text_leaves_no_file_but_an_emptied_one_is_saved() -> None:
    place = Place()
    place.save("fake", [], [])
    assert place.path is None
    document = document_of("ab")
    path = save(document, place)
    assert place.seconds > 0
    document.delete(0)
    save(document, place)
    assert store.load(path)[0].text == ""


def test_texts_are_listed_newest_first_and_broken_ones_after_them() -> None:
    places = [Place(), Place()]
    first, second = (save(document_of(t), p) for t, p in zip(("ab", "cd"), places, strict=True))
    head, *rest = first.read_text().splitlines()
    older = json.loads(head) | {"saved": "2001-01-01T00:00:00+00:00"}
    first.write_text("\n".join([json.dumps(older), *rest]))
    (store.home() / "x.jsonl").write_text("nonsense")
    *good, bad = store.entries()
    assert [entry.path for entry in good] == [second, first]
    assert [entry.title for entry in good] == ["cd", "ab"]
    assert bad.title.startswith("unreadable: x.jsonl: ")


@pytest.mark.parametrize(
    "head",
    [
        "[" * 100_000,
        "5",
        "null",
        '{"format_version":' + "9" * 5000 + "}",
        {"saved": "0001-01-01T00:00:00+00:00"},
        {"saved": "9999-12-31T23:59:59-14:00"},
        {"saved": 5},
        {"n_tokens": float("inf")},
        {"n_tokens": 2**70},
        {"model": "x" * 300},
        {"model": "x/" * 5000},
        {"title": ["x"]},
    ],
    ids=lambda head: str(head)[:20],
)
def test_a_broken_head_leaves_the_others_in_the_list(head: str | dict[str, object]) -> None:
    good, path = save(document_of("ab"), Place()), save(document_of("cd"), Place())
    first, *rest = path.read_text().splitlines()
    broken = head if isinstance(head, str) else json.dumps(json.loads(first) | head)
    path.write_text("\n".join([broken, *rest]))
    listed, said = store.entries()
    assert listed.path == good and listed.title == "ab"
    assert said.path == path and f"unreadable: {path.name}: " in said.title
    with pytest.raises(UserError, match="was set aside"):
        store.load(path)
    assert [entry.path for entry in store.entries()] == [good]


def test_times_of_all_zones_and_of_none_are_in_one_order() -> None:
    times = ["2001-01-01T12:00:00+14:00", "2001-01-03T12:00:00", "2001-01-05T12:00:00-12:00"]
    for time in times:
        path = save(document_of("ab"), Place())
        head, *rest = path.read_text().splitlines()
        path.write_text("\n".join([json.dumps(json.loads(head) | {"saved": time}), *rest]))
    saved = [entry.saved for entry in store.entries()]
    assert len(saved) == 3 and saved == sorted(saved, reverse=True)


def test_what_was_set_aside_is_never_overwritten() -> None:
    path = save(document_of("ab"), Place())
    for content in ("one", "two", "three"):
        path.write_text(content)
        with pytest.raises(UserError, match=r"set aside as .*\.broken"):
            store.load(path)
    assert {each.read_text() for each in store.home().glob("*.broken")} == {"one", "two", "three"}


@pytest.mark.skipif(os.name != "posix", reason="nothing is locked there")
@pytest.mark.parametrize("make", ["mkfifo", "mkdir"])
def test_what_stands_in_the_place_of_a_lock_stops_nothing(make: str) -> None:
    path = save(document_of("ab"), Place())
    path.with_suffix(".lock").unlink()
    getattr(os, make)(path.with_suffix(".lock"))
    place = Place(path)
    assert place.claim()
    assert save(document_of("cd"), place) == path
    place.release()


def test_a_directory_that_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    store.home().parent.mkdir(exist_ok=True)
    store.home().write_text("a file")
    with pytest.raises(UserError, match="cannot save the text"):
        save(document_of("ab"), Place())
    assert store.entries() == []


WRONG = [
    ('"logprob":-0.5', '"logprob":"-0.5"'),
    ('"logprob":-0.5', '"logprob":NaN'),
    ('"logprob":-0.5', '"logprob":-Infinity'),
    ('"logprob":-0.5', '"logprob":-1e300'),
    ('"logprob":-0.5', '"logprob":2'),
    ('"logprob":-0.25', '"logprob":null'),
    ('"sampling_logprob":null', '"sampling_logprob":[1]'),
    ('"entropy":1.25', '"entropy":1e4'),
    ('"entropy":1.25', '"entropy":true'),
    ('"rank":1', '"rank":' + str(2**70)),
    ('"rank":1', '"rank":1.5'),
    ('"position":0', '"position":-1'),
    ('"token_id":0', '"token_id":' + str(2**70)),
    ('"bytes":[97]', '"bytes":' + str(2**40)),
    ('"bytes":[97]', '"bytes":[256]'),
    ('"bytes":[97]', '"bytes":"a"'),
    ('"text":"a"', '"text":null'),
    ('"finish_reason":null', '"finish_reason":["stop"]'),
    ('"is_prompt":false', '"is_prompt":"no"'),
    ('"is_marked":false', '"is_marked":0'),
    ('"last":0', '"last":0.5'),
    ('"behind":null', '"behind":-1'),
    ('"setting":null', '"setting":-1'),
    ('"rank":1', '"rank":1,"more":2'),
    ('"setting":null', '"setting":null,"remark":5'),
    ('"setting":null', '"setting":null,"remark":{}'),
    ('"setting":null', '"setting":null,"remark":{"is_starred":1,"name":"","note":""}'),
    ('"setting":null', '"setting":null,"remark":{"is_starred":true,"name":[],"note":""}'),
    ('"setting":null', '"setting":null,"remark":{"is_starred":true,"name":"","note":null}'),
]


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: lines[:-1],  # half of it
        lambda lines: [*lines[:-1], lines[-1][:20]],
        lambda lines: ["{}", *lines[1:]],
        lambda lines: [lines[0].replace('"path":[0,1]', '"path":[1]'), *lines[1:]],
        lambda lines: [lines[0].replace('"path":[0,1]', '"path":[0,7]'), *lines[1:]],
        lambda lines: [lines[0], lines[1].replace('"last":0', '"last":5'), *lines[2:]],
        lambda lines: [lines[0], lines[1].replace('"token_id":0', '"token_id":"x"'), *lines[2:]],
        lambda lines: [lines[0].replace('"format_version":1', '"format_version":2'), *lines[1:]],
        lambda lines: [lines[0], "[" * 100_000],
        lambda lines: [lines[0], "5"],
        lambda lines: [lines[0].replace('"settings":[]', '"settings":[{"top_p":9}]'), *lines[1:]],
        *(
            lambda lines, old=old, new=new: [lines[0], lines[1].replace(old, new), *lines[2:]]
            for old, new in WRONG
        ),
    ],
)
def test_a_broken_text_is_set_aside_and_named(damage: object) -> None:
    path = save(document_of("ab"), Place())
    broken = "\n".join(damage(path.read_text().splitlines()))
    path.write_text(broken)
    with pytest.raises(UserError, match=r"is broken and was set aside as .*\.broken"):
        store.load(path)
    assert not path.exists()
    assert path.with_suffix(".broken").read_text() == broken


def test_a_save_that_fails_leaves_the_old_text(monkeypatch: pytest.MonkeyPatch) -> None:
    place, document = Place(), document_of("ab")
    path = save(document, place)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    document.append([step(3)], is_prompt=False)
    with pytest.raises(UserError, match="No space left"):
        save(document, place)
    assert path.read_bytes() == before
    assert [p.name for p in store.home().iterdir() if p.name.startswith(".")] == []


@pytest.mark.skipif(os.name != "posix", reason="nothing is locked there")
def test_two_programs_on_one_text_do_not_lose_each_others_work() -> None:
    mine, theirs = Place(), Place()
    path = save(document_of("ab"), mine)
    theirs = Place(path)
    assert not theirs.claim()
    other = save(document_of("cd"), theirs)
    assert other != path
    assert store.load(path)[0].text == "ab"
    mine.release()
    later = Place(path)
    assert later.claim()


def test_a_file_without_remarks_opens_and_one_with_endless_names_is_cut() -> None:
    path = save(document_of("ab"), Place())
    assert "remark" not in path.read_text()
    assert store.load(path)[0].remark == NOTHING
    said = json.dumps({"is_starred": True, "name": "\x1b[31m" * 10_000, "note": "", "more": 1})
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace('"setting":null', f'"setting":null,"remark":{said}')
    path.write_text("\n".join(lines))
    remark = store.load(path)[0].remark
    assert remark.is_starred and len(remark.name) == LONGEST_NAME
