"""Changes inside the network: in runs, in saved texts, in exports, in comparisons."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from gpt.errors import UserError
from gpt.interventions import Edge, Intervention, Knockout, Steer
from gpt.settings import Sampling
from tests.tui.fake import FakeBackend, token
from tests.tui.test_session import SETTINGS, all_of, session_of
from tui import store
from tui.changes import described, network, said
from tui.document import Document
from tui.export.page import to_html
from tui.export.parts import Export, shown
from tui.export.picture import to_svg
from tui.export.plain import to_json, to_markdown
from tui.news import WhatIf
from tui.second_opinion import what_if
from tui.store import Place

HEAD = Knockout(part="head", layer=2, head=1)
MEAN = Knockout(part="mlp", layer=1, by="mean")
EDGE = Edge(source=1, target=4)
STEER = Steer(layer=3, towards=("love",), away=("hate", "anger"), strength=1.5)
ALL: tuple[Intervention, ...] = (HEAD, MEAN, EDGE, STEER)


def test_a_few_words_say_what_is_changed() -> None:
    assert said(()) == described(()) == ""
    assert said(ALL) == "layer 2 head 1 off, layer 1 MLP at the mean, 1 edge cut, steered by 1.5"
    assert said((MEAN, replace(MEAN, layer=2))) == "2 parts at the mean"
    assert said(ALL, is_short=True) == "1 part off, 1 part at the mean, 1 edge cut, steered"
    assert said((HEAD,)) == "layer 2 head 1 off"
    assert (
        described((HEAD, STEER))
        == 'layer 2 head 1 muted, layer 3 steered by 1.5 from "hate", "anger" to "love"'
    )
    assert described((HEAD,) * 6).endswith("layer 2 head 1 muted and 2 more")
    assert network(()) == "whole network"


async def test_a_run_writes_with_what_is_changed_and_its_tokens_know_it() -> None:
    backend = FakeBackend("hey")
    session = session_of(backend)
    await all_of(session.run(SETTINGS, "ab"))
    session.document.changes = (HEAD, EDGE)
    await all_of(session.run(SETTINGS, "c"))
    assert [request.changes for request in backend.requests] == [(), (HEAD, EDGE)]
    changes = [node.changes for node in session.document.path]
    assert changes == [()] * 5 + [(HEAD, EDGE)] * 4  # the prompt was read by that network, too
    assert session.document.path[-1].sampling == SETTINGS.sampling


async def test_branches_all_have_the_changes() -> None:
    backend = FakeBackend("hey")
    session = session_of(backend)
    session.document.changes = (STEER,)
    await all_of(session.run(SETTINGS._replace(branches=3), "ab"))
    assert [request.changes for request in backend.requests] == [(STEER,)]
    ends = [branch.end for branch in session.document.all_branches()]
    assert [end.changes for end in ends] == [(STEER,)] * 3


async def test_a_new_text_keeps_what_fits_and_another_model_nothing() -> None:
    session = session_of(FakeBackend())
    session.document.changes = ALL
    session.begin()
    assert session.document.changes == (HEAD, MEAN, STEER)  # an edge belongs to a text
    await all_of(session.run(SETTINGS, "ab"))
    await all_of(session.read_again())
    assert not session.document.changes
    assert not any(node.changes for node in session.document.path)


async def test_what_if_replays_with_the_changes_and_then_without() -> None:
    backend = FakeBackend("hey")
    session = session_of(backend)
    await all_of(session.run(SETTINGS, "ab"))
    session.document.changes = (HEAD,)
    sampling = SETTINGS.sampling
    news = await all_of(what_if(session, 2, sampling, slide=False))
    (found,) = (each for each in news if isinstance(each, WhatIf))
    assert backend.requests[-1].changes == (HEAD,)
    assert backend.requests[-1].sampling.seed == sampling.seed
    assert found.old[2].changes == () and found.new[2].changes == (HEAD,)
    assert not session.document.path[2].changes  # the old text has its own numbers again
    # Now a text of the changed network: with the same settings the whole network writes.
    session.document.cut(2)
    await all_of(session.run(SETTINGS))
    await all_of(what_if(session, 2, sampling, slide=False))
    assert not backend.requests[-1].changes
    await all_of(what_if(session, 2, Sampling(temperature=0.5, seed=7), slide=False))
    assert backend.requests[-1].changes == (HEAD,)  # a setting differs; the changes act in both


async def test_a_text_that_is_opened_brings_its_changes_and_its_model() -> None:
    document = changed_document()
    document.changes = (MEAN,)
    path = save(document)
    session = session_of(FakeBackend())
    session.document.changes = (HEAD,)
    session.open(path)
    session.switch("other")  # the model of the text
    assert session.document.changes == (MEAN,)
    session.document.changes = ()
    session.close()
    assert not store.load(path)[0].changes


def changed_document() -> Document:
    document = Document()
    document.append([token(0, "a", drawn=False)], is_prompt=True)
    document.append([token(1, "b")], is_prompt=False, sampling=Sampling(), changes=(HEAD, STEER))
    document.append([token(2, "c")], is_prompt=False, sampling=Sampling(), changes=(MEAN,))
    document.append([token(3, "d")], is_prompt=False, sampling=Sampling(), changes=(HEAD, STEER))
    return document


def save(document: Document) -> Path:
    place = Place()
    nodes, path = list(document.nodes()), list(document.path)
    place.save("fake", nodes, path, document.system, document.changes)
    assert place.path
    return place.path


@pytest.mark.parametrize("acting", [(), (EDGE,), (HEAD, STEER)])
def test_a_saved_text_has_its_changes(acting: tuple[Intervention, ...]) -> None:
    document = changed_document()
    document.changes = acting
    loaded, _ = store.load(save(document))
    assert loaded.changes == acting
    assert [node.changes for node in loaded.path] == [(), (HEAD, STEER), (MEAN,), (HEAD, STEER)]


def test_a_text_without_changes_is_saved_as_before() -> None:
    document = Document()
    document.append([token(0, "a")], is_prompt=True)
    head, line = map(json.loads, save(document).read_text().splitlines())
    assert not {"changes", "inside"} & (head.keys() | line.keys())


@pytest.mark.parametrize(
    "changes",
    [
        {"changes": 3},
        {"changes": [[{"kind": "knockout", "part": "tail", "layer": 1}]]},
        {"changes": [[{"kind": "nothing"}]]},
        {"changes": [3]},
        {"changes": [[{"kind": "edge", "source": "x"}]]},
        {"inside": 9},
        {"inside": -1},
        {"inside": True},
        {"inside": "1"},
    ],
    ids=str,
)
def test_a_broken_file_is_refused(changes: dict[str, object]) -> None:
    path = save(changed_document())
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps(json.loads(head) | changes), *lines]))
    with pytest.raises(UserError, match="is broken and was set aside"):
        store.load(path)


def test_an_export_says_what_was_changed() -> None:
    document = changed_document()
    export = Export(shown(document), "fake", datetime(2026, 1, 2))
    words = (
        'layer 2 head 1 muted, layer 3 steered by 1.5 from "hate", "anger" to "love" for tokens '
        "1, 3; layer 1 MLP replaced by its mean for token 2 (of 4, counted from 0; they were read "
        "or written so)"
    )
    assert f"Inside the network: {words}." in to_markdown(export)
    page = to_html(export)
    assert f"inside the network: {html.escape(words)}" in page
    assert "Probabilities are those of the network that each token came from" in page
    assert re.findall(r'<b class="t [^"]* n" [^>]*>(\w)</b>', page) == ["b", "c", "d"]
    assert "inside: layer 1 MLP replaced by its mean" in page  # at the token
    assert "inside the network: layer 2 head 1 muted" in to_svg(export).replace("&#160;", " ")
    trace = json.loads(to_json(export))
    assert [each.get("inside") for each in trace["tokens"]] == [None, 1, 2, 1]
    assert trace["changes"][1] == [
        {"kind": "knockout", "part": "mlp", "layer": 1, "head": None, "by": "mean"}
    ]
    plain = Document()
    plain.append([token(0, "a")], is_prompt=True)
    export = Export(shown(plain), "fake", datetime(2026, 1, 2))
    assert "nside the network" not in to_markdown(export) + to_html(export)
    assert "changes" not in json.loads(to_json(export))
