"""A model at a real llama.cpp server: the same numbers as our own engine, and its bad days."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from convert.write import ConversionOptions, convert
from gpt.checkpoint import load
from gpt.context import Context
from gpt.errors import UserError
from gpt.generate import generate, score
from gpt.interpret.explain import likely_paths, waterfall
from gpt.limits import Limits
from gpt.progress import Watcher
from gpt.remote.connect import connect
from gpt.remote.loop import RequestCancelledError
from gpt.remote.session import Session
from gpt.settings import Sampling
from gpt.step import Step
from tests.convert.gguf_files import byte_level, write_gguf
from tests.gpt.llama_server import LlamaServer

pytest.importorskip("xllamacpp")

CONTEXT = 256
LONG = 2048
SIZE = 266
CLOSE = 4e-4
"""llama.cpp reads the activation from a table of half-precision numbers."""
TEXT = "hello world, naïve 東京 🦥!"
KEY = "sk-of-these-tests"
GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("TEST_KEY", KEY)
        patch.setenv("WRONG_KEY", "sk-wrong")
        yield


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 whose distributions are far from uniform and whose activations are small: the table
    that llama.cpp reads them from is coarser for large ones."""
    import transformers

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": SIZE,
        "n_positions": LONG,
        "n_embd": 64,
        "n_layer": 2,
        "n_head": 2,
    }
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(**sizes, bos_token_id=None, eos_token_id=None)
    ).eval()
    with torch.no_grad():
        model.transformer.wte.weight.mul_(6)
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    return write_gguf(path, model, byte_level(n_tokens=SIZE))


@pytest.fixture(scope="module")
def server(file: Path) -> Iterator[LlamaServer]:
    server = LlamaServer(file, context=CONTEXT)
    yield server
    server.kill()


@pytest.fixture
def session(server: LlamaServer) -> Iterator[Session]:
    session = connect(server.url)
    yield session
    session.close()


@pytest.fixture(scope="module")
def ours(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """The same weights in our engine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPT_TUI_HOME", str(tmp_path_factory.mktemp("models")))
        options = ConversionOptions(force=True)
        done = convert(str(file), name="t", verify=False, options=options, on_event=lambda e: None)
    return load(done.directory).new_context()


def _compare(theirs: list[Step], ours: list[Step]) -> None:
    for a, b in itertools.zip_longest(theirs, ours):
        assert (a.position, a.token_id, a.bytes, a.text) == (
            b.position,
            b.token_id,
            b.bytes,
            b.text,
        )
        if b.logprob is None:
            assert (a.logprob, a.rank, a.entropy) == (None, None, None)
            continue
        assert a.logprob == pytest.approx(b.logprob, abs=CLOSE)
        assert a.entropy == pytest.approx(b.entropy, abs=CLOSE)
        assert not a.entropy_is_bound
        mine = {c.token_id: c.logprob for c in b.candidates}
        for candidate in a.candidates:
            if candidate.token_id in mine:  # the last ones may be nearly equal
                assert candidate.logprob == pytest.approx(mine[candidate.token_id], abs=CLOSE)
        assert len(a.candidates) == len(b.candidates)


def test_what_it_can_do(session: Session, server: LlamaServer) -> None:
    can = session.capabilities
    assert can.server.startswith("llama.cpp") and can.address == server.url
    assert can.candidates is None and can.is_exact and can.is_raw and can.has_ids
    assert (can.prompt, can.seed, can.inside, can.chat) == (
        "a request a token",
        "strict",
        False,
        True,
    )
    assert can.settings is not None
    assert {"temperature", "top_k", "top_p", "min_p", "repetition_penalty"} <= set(can.settings)
    assert {"banned", "boosted", "presence_penalty", "top_n_sigma"} <= set(can.settings)
    assert "mirostat_tau" not in can.settings
    assert (session.model.vocab_size, session.model.block_size) == (SIZE, CONTEXT)


def test_capabilities_are_kept_for_a_day(
    server: LlamaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    connect(server.url).close()
    connect(server.url, tell=told.append).close()
    assert not any("measuring" in message for message in told)
    connect(server.url, tell=told.append, probe=True).close()
    assert any("measuring" in message for message in told)
    told.clear()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 25 * 60 * 60)
    connect(server.url, tell=told.append).close()
    assert any("measuring" in message for message in told)


def test_ids_and_bytes(session: Session, ours: Context) -> None:
    ids = session.encode(TEXT)
    assert ids == ours.encode(TEXT)
    assert session.encode_more(TEXT) == ours.tokenizer.encode_more(TEXT)
    found = session.pieces(range(SIZE))
    expected = {i: ours.tokenizer.token_bytes(i) for i in range(263)}
    assert {i: found[i].bytes for i in expected} == expected
    assert (found[263].bytes, found[263].name) == (b"", "<|end|>")
    # What llama.cpp takes for text, whatever the file says.
    assert (found[264].bytes, found[265].bytes) == (b"<|start|>", b"<tag>")
    assert session.encode("<|end|>") == ours.encode("<|end|>")  # typed text is no special token


def test_scores(session: Session, ours: Context) -> None:
    ids = ours.encode(TEXT)
    _compare(list(session.score(ids, top=5)), list(score(ours, ids, top=5)))
    part = list(session.score(ids, start=9, top=2))
    _compare(part, list(score(ours, ids, start=9, top=2)))


def test_special_tokens_score(session: Session, ours: Context) -> None:
    ids = [70, 263, 71, 265]
    found = list(session.score(ids, top=3))
    for a, b in zip(found[1:], list(score(ours, ids, top=3))[1:], strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=CLOSE)
    assert found[1].name == "<|end|>"


@pytest.mark.parametrize("prompt", [TEXT, "a", "🦥"])
def test_greedy_text_is_the_same(session: Session, ours: Context, prompt: str) -> None:
    ids = ours.encode(prompt)
    limits = Limits(30)
    theirs = list(session.generate(ids, GREEDY, limits, top=4))
    mine = list(generate(ours, ids, GREEDY, limits, top=4))
    _compare(theirs, mine)
    assert [s.sampling_logprob for s in theirs] == [0.0] * len(theirs)
    assert theirs[-1].finish_reason == mine[-1].finish_reason


def test_drawn_half_characters_have_all_their_tokens(session: Session, ours: Context) -> None:
    """At a high temperature nearly all tokens are half characters, which the server merges."""
    ids, hot = ours.encode("hello"), Sampling(temperature=20, seed=3, banned=((263,),))
    steps = list(session.generate(ids, hot, Limits(60), top=3))
    assert len(steps) == 60 and steps[-1].finish_reason == "length"
    assert sum(not step.text for step in steps) > 5
    path = [*ids, *(step.token_id for step in steps)]
    mine = list(score(ours, path, start=len(ids), top=3))
    for step, own in zip(steps, mine, strict=True):
        assert (step.bytes, step.text) == (own.bytes, own.text)
        assert step.logprob == pytest.approx(own.logprob, abs=CLOSE)
        assert step.entropy == pytest.approx(own.entropy, abs=CLOSE)
    again = list(session.generate(ids, hot, Limits(60), top=3))
    assert [step.token_id for step in again] == [step.token_id for step in steps]
    other = list(session.generate(ids, replace(hot, seed=4), Limits(60), top=3))
    assert [step.token_id for step in other] != [step.token_id for step in steps]


def test_settings_act_as_ours(session: Session, ours: Context) -> None:
    """What can be computed from candidates is what our own stages compute."""
    ids = ours.encode("hello world")
    sampling = Sampling(temperature=0.7, top_k=12, top_p=0.9, min_p=0.02, seed=5)
    for step in session.generate(ids, sampling, Limits(12), top=SIZE):
        path = [*ids]
        expected = waterfall(ours, path, sampling, top=SIZE)
        final = {row.token_id: row.probabilities[-1] for row in expected.rows}
        assert step.sampling_logprob is not None
        assert math.exp(step.sampling_logprob) == pytest.approx(final[step.token_id], abs=1e-3)
        ids.append(step.token_id)


def test_penalties_and_words(session: Session, ours: Context) -> None:
    ids = ours.encode("hello hello hello")
    plain = next(iter(session.generate(ids, GREEDY, Limits(1))))
    banned = replace(GREEDY, banned=((plain.token_id,),))
    assert next(iter(session.generate(ids, banned, Limits(1)))).token_id != plain.token_id
    boosted = replace(GREEDY, boosted=(((77,), 50.0),))
    assert next(iter(session.generate(ids, boosted, Limits(1)))).token_id == 77
    repeated = replace(GREEDY, repetition_penalty=1.7)
    theirs = [s.token_id for s in session.generate(ids, repeated, Limits(20))]
    assert theirs == [s.token_id for s in generate(ours, ids, repeated, Limits(20))]


def test_words_of_several_tokens(session: Session, ours: Context) -> None:
    ids = ours.encode("hello")
    plain = [step.token_id for step in generate(ours, ids, GREEDY, Limits(20))]
    half, word = (plain[3], plain[4]), tuple(ours.encode("\N{SLOTH}"))  # its tokens come as one
    for sampling in (
        replace(GREEDY, banned=(half, tuple(plain[7:10]))),
        replace(GREEDY, boosted=((word, 40.0),)),
        replace(GREEDY, boosted=((word, 40.0),), banned=(word[:3],)),
    ):
        theirs = list(session.generate(ids, sampling, Limits(20), top=3))
        mine = list(generate(ours, ids, sampling, Limits(20), top=3))
        _compare(theirs, mine)
        assert theirs[-1].finish_reason == mine[-1].finish_reason == "length"
        assert [step.token_id for step in theirs] != plain


def test_waterfall(session: Session, ours: Context) -> None:
    ids = ours.encode("hello world")
    sampling = Sampling(temperature=0.5, top_k=9, top_p=0.95, boosted=(((70,), 2.0),))
    theirs = session.waterfall(ids, sampling, chosen=5, top=6)
    mine = waterfall(ours, ids, sampling, chosen=5, top=6)
    assert (theirs.position, theirs.stages, theirs.left) == (mine.position, mine.stages, mine.left)
    assert theirs.drawn == -1
    rows = {row.token_id: row for row in mine.rows}
    for row in theirs.rows:
        assert row.probabilities == pytest.approx(rows[row.token_id].probabilities, abs=CLOSE)
        assert row.removed_by == rows[row.token_id].removed_by
    assert theirs.rest == pytest.approx(mine.rest, abs=0.02)


def test_paths(session: Session, ours: Context) -> None:
    ids = ours.encode("hello")
    theirs = session.paths(ids, width=4, depth=3)
    mine = likely_paths(ours, ids, width=4, depth=3)
    assert [path.ids for path in theirs] == [path.ids for path in mine]
    for a, b in zip(theirs, mine, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=CLOSE)
        assert a.bytes == b.bytes


def test_options(session: Session, ours: Context) -> None:
    ids = ours.encode("hello")
    found = session.options(ids, [" world", "é"], top=0)
    assert [[s.token_id for s in one] for one in found] == [
        ours.tokenizer.encode_more(" world"),
        ours.tokenizer.encode_more("é"),
    ]
    assert all(step.logprob is not None for one in found for step in one)


def test_chat(session: Session) -> None:
    first = session.turn([], "hello")
    text = session.decode(first.ids)
    assert "user" in text and "hello" in text and text.rstrip().endswith("assistant")
    own = [i for p, i in enumerate(first.ids) if p not in first.template]
    assert session.decode(own) == "hello"
    typed = session.turn([], "a<|end|>b")
    written = [i for p, i in enumerate(typed.ids) if p not in typed.template]
    assert session.decode(written) == "a<|end|>b" and 263 not in written
    told = session.turn([], "hello", "be brief")
    assert "be brief" in session.decode(told.ids)
    answered = [*first.ids, 70, 71]
    later = session.turn(answered, "more")
    assert later.ids[: len(answered)] == answered
    assert session.decode(later.ids[len(answered) :]).count("more") == 1
    assert "hello" not in session.decode(later.ids[len(answered) :])


def test_stops(session: Session, ours: Context) -> None:
    ids, hot = ours.encode("hello"), Sampling(temperature=20, seed=3, banned=((263,),))
    steps = list(session.generate(ids, hot, Limits(60)))
    text = "".join(step.text for step in steps)
    stop = next(text[i : i + 3] for i in range(8, len(text)) if "\ufffd" not in text[i : i + 3])
    stopped = list(session.generate(ids, hot, Limits(60, (stop,))))
    assert stopped[-1].finish_reason == "stop"
    assert [s.token_id for s in stopped] == [s.token_id for s in steps[: len(stopped)]]
    assert stop in "".join(step.text for step in stopped)


def test_end_of_text(session: Session, ours: Context) -> None:
    steps = list(session.generate(ours.encode("a"), replace(GREEDY, boosted=(((263,), 99.0),))))
    assert [(s.token_id, s.name, s.finish_reason) for s in steps] == [(263, "<|end|>", "eos")]


def test_full_context(session: Session, ours: Context) -> None:
    ids = (ours.encode(TEXT) * 19)[: CONTEXT - 5]
    steps = list(session.generate(ids, GREEDY, Limits(50), top=1))
    assert (len(steps), steps[-1].finish_reason) == (5, "context full")
    full = (ids * 2)[:CONTEXT]
    assert session.generate(full, GREEDY).finish_reason == "context full"
    with pytest.raises(UserError, match="257 tokens and this server reads 256"):
        session.generate([*full, 1], GREEDY)
    with pytest.raises(UserError, match="cannot slide"):
        session.generate(ids, GREEDY, Limits(slide=True))
    with pytest.raises(UserError, match="empty"):
        session.generate([], GREEDY)
    with pytest.raises(UserError, match="no token 266"):
        session.generate([SIZE], GREEDY)


def test_cancelled(file: Path) -> None:
    """A cancelled text ends at the server, too, so that its only slot answers the next one."""
    server = LlamaServer(file, context=CONTEXT)
    try:
        session = connect(server.url)
        seen: list[Step] = []
        drawing = session.generate(
            session.encode("a"), GREEDY, Limits(90), watcher=Watcher(lambda: len(seen) > 3)
        )
        seen.extend(itertools.islice(drawing, 4))
        seen.extend(drawing)
        assert len(seen) < 90 and drawing.finish_reason == "cancelled"
        slots = f"{server.url}/slots"
        until = time.monotonic() + 30
        while httpx.get(slots, timeout=30).json()[0]["is_processing"]:
            assert time.monotonic() < until
        session.close()
    finally:
        server.kill()


def test_reading_stops_between_quick_answers(session: Session, ours: Context) -> None:
    ids, seen = ours.encode(TEXT), list[Step]()
    for step in session.score(ids, top=1, watcher=Watcher(lambda: len(seen) > 3)):
        seen.append(step)
    assert len(seen) == 4 < len(ids)
    told: list[str] = []
    with pytest.raises(RequestCancelledError):
        session.paths(ids, depth=9, watcher=Watcher(lambda: len(told) > 2, told.append))
    assert len(told) == 3


def test_death_and_again(file: Path) -> None:
    server = LlamaServer(file, context=LONG)
    session = connect(server.url)
    seen: list[Step] = []
    bright = replace(GREEDY, boosted=tuple(((i,), 50.0) for i in range(33, 90)))  # whole characters
    with pytest.raises(UserError, match=f"the server at 127.0.0.1:{server.port} (ended|broke)"):
        for step in session.generate(session.encode("a"), bright, Limits(2000), top=SIZE):
            seen.append(step)
            if len(seen) == 2:
                server.kill()
    assert 2 <= len(seen) < 2000
    with pytest.raises(UserError, match=r"cannot reach the server at 127\.0\.0\.1"):
        list(session.generate(session.encode("a"), GREEDY, Limits(9)))
    server.start()
    try:
        again = list(session.generate([*session.encode("a"), seen[0].token_id], bright, Limits(1)))
        assert again[0].token_id == seen[1].token_id
        session.close()
    finally:
        server.kill()


def test_key_and_slots(file: Path) -> None:
    server = LlamaServer(file, context=CONTEXT, slots=2, key=KEY)
    try:
        with pytest.raises(UserError, match="--api-key-env") as refused:
            connect(server.url)
        with pytest.raises(UserError, match="check the key") as wrong:
            connect(server.url, "WRONG_KEY")
        assert "sk-wrong" not in str(wrong.value) + str(refused.value)
        with pytest.raises(UserError, match="not set"):
            connect(server.url, "NO_SUCH_VARIABLE")
        session = connect(server.url, "TEST_KEY")
        ids = session.encode(TEXT)
        assert session.model.block_size == CONTEXT
        found = list(session.score(ids, top=1))  # two requests at a time
        assert [step.token_id for step in found] == ids
        assert KEY not in repr(session.capabilities)
        session.close()
    finally:
        server.kill()


def test_wrong_model(server: LlamaServer) -> None:
    with pytest.raises(UserError, match="has no model 'other'; it has: tiny"):
        connect(server.url, model="other")


def test_needs_no_torch(server: LlamaServer) -> None:
    code = f"""
import sys
from gpt.limits import Limits
from gpt.remote.connect import connect
from gpt.settings import Sampling
session = connect({server.url!r})
print(len(list(session.generate(session.encode("hello"), Sampling(), Limits(3)))))
print(sorted({{"torch", "numpy", "transformers", "tokenizers"}} & set(sys.modules)))
"""
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ},
    )
    assert found.stdout == "3\n[]\n"
