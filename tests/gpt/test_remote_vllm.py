"""A model at vLLM, whose answers a double gives in the shapes of recorded ones."""

from __future__ import annotations

import gc
import json
import math
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt.errors import UserError
from gpt.limits import Limits
from gpt.remote import token_strings
from gpt.remote.connect import connect
from gpt.remote.session import Session
from gpt.settings import Sampling
from tests.gpt.fake_server import EVENTS, Answer, Fake, events, serving
from tests.gpt.vllm_double import END, SIZE, Double, bytes_of, encode, logprobs_after

TEXT = "hello world 🦥 é"
GREEDY = Sampling(temperature=0)
ALL_CHARACTERS = token_strings._characters


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("gpt.remote.token_strings._characters", lambda: TEXT)  # all take seconds


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serving(Double().routes()) as found:
        yield found


@pytest.fixture
def session(fake: Fake) -> Iterator[Session]:
    session = connect(fake.url)
    session.pieces([0])  # what is asked once
    yield session
    session.close()


def test_what_it_can_do(session: Session, fake: Fake) -> None:
    can = session.capabilities
    assert (can.server, can.address, can.models) == ("vLLM 0.32.0", fake.url, ("toy",))
    assert can.candidates is None and can.is_exact and can.is_raw and can.has_ids and can.chat
    assert (can.prompt, can.seed, can.inside) == ("one request", "best effort", False)
    assert set(can.settings or ()) == {
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "banned",
        "boosted",
    }
    assert (session.model.vocab_size, session.model.block_size) == (SIZE, 64)


def test_fewer_candidates_and_processed_numbers() -> None:
    with serving(Double(most=20, processed=True).routes()) as fake:
        session = connect(fake.url)
        can = session.capabilities
        assert (can.candidates, can.is_exact, can.is_raw) == (20, False, False)
        assert session.model.vocab_size == 0
        step = next(iter(session.generate(encode("hello"), GREEDY, Limits(1), top=50)))
        assert len(step.candidates) <= 20 and step.entropy_is_bound
        session.close()


@pytest.mark.parametrize("ignored", ["top_k", "min_p", "repetition_penalty", "logit_bias", "seed"])
def test_settings_that_are_ignored_are_seen(ignored: str) -> None:
    """A server answers 200 to fields that it does not know."""
    routes = Double().routes()
    complete: Any = routes["/v1/completions"]
    routes["/v1/completions"] = lambda body: complete(
        {**body, ignored: None}
        if ignored == "seed"
        else {k: v for k, v in body.items() if k != ignored}
    )
    with serving(routes) as fake:
        session = connect(fake.url)
        lost = {"logit_bias": {"banned", "boosted"}, "seed": set()}.get(ignored, {ignored})
        found = set(session.capabilities.settings or ())
        assert not found & lost and "temperature" in found
        assert (session.capabilities.seed == "none") == (ignored == "seed")
        session.close()


def test_bytes(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt.remote.token_strings._characters", ALL_CHARACTERS)
    session = connect(fake.url)
    found = session.pieces(range(SIZE))
    never = {0xC0, 0xC1, *range(0xF5, 0x100)}  # bytes that no text has, so that nobody can tell
    known = [i for i in range(SIZE) if not never & set(bytes_of(i))]
    assert len(known) == SIZE - len(never)
    assert {i: found[i].bytes for i in known} == {i: bytes_of(i) for i in known}
    assert {found[i].name for i in range(SIZE - 1)} == {""}
    assert found[END].name == "<|end|>"
    assert session.encode(TEXT) == encode(TEXT)
    session.close()


def test_scores_are_one_request(session: Session, fake: Fake) -> None:
    ids = encode(TEXT)
    fake.requests.clear()
    steps = list(session.score(ids, top=3))
    assert sum(path == "/v1/completions" for path, *_ in fake.requests) <= 2  # one: is it special?
    assert [step.token_id for step in steps] == ids
    assert "".join(step.text for step in steps) == TEXT
    for n, step in enumerate(steps[1:], 1):
        expected = logprobs_after(ids[:n])
        assert step.logprob == expected[ids[n]]
        assert step.rank == 1 + sum(value > expected[ids[n]] for value in expected)
        best = sorted(expected, reverse=True)[:3]
        assert [c.logprob for c in step.candidates] == best
        assert step.entropy == pytest.approx(-sum(math.exp(v) * v for v in expected))
        assert not step.entropy_is_bound


def test_a_full_context_is_scored(session: Session) -> None:
    ids = (encode(TEXT) * 9)[:64]
    steps = list(session.score(ids, top=2))
    assert len(steps) == 64
    assert steps[-1].logprob == logprobs_after(ids[:-1])[ids[-1]]
    assert session.generate(ids, GREEDY).finish_reason == "context full"


def test_drawn(session: Session) -> None:
    ids = encode("hello")
    hot = Sampling(temperature=2, seed=1)
    drawing = session.generate(ids, hot, Limits(31), top=4)
    steps = list(drawing)
    assert len(steps) == 31 and drawing.finish_reason == "length" == steps[-1].finish_reason
    path = list(ids)
    for step in steps:
        assert step.logprob == logprobs_after(path)[step.token_id]
        assert step.bytes in (bytes_of(step.token_id), "\ufffd".encode())
        path.append(step.token_id)
    again = [s.token_id for s in session.generate(ids, hot, Limits(31), top=4)]
    assert again == [s.token_id for s in steps]
    assert [s.finish_reason for s in session.generate(ids, GREEDY, Limits(200))][-1] == (
        "context full"
    )


@pytest.mark.parametrize(
    ("sampling", "asked"),
    [
        (Sampling(), 2),
        (Sampling(temperature=0.5), 2),  # no number of candidates says what it makes of them
        (Sampling(top_k=8), 40),
        (Sampling(temperature=0, top_k=8), 2),
        (Sampling(top_k=60, banned=((70,),)), 61),
        (Sampling(top_k=500, top_p=0.9), 100),
        (Sampling(min_p=0.1), 40),
        (Sampling(top_p=0.5, repetition_penalty=2), 2),
    ],
)
def test_as_many_candidates_as_say_what_the_settings_leave(sampling: Sampling, asked: int) -> None:
    with serving(Double(most=200).routes()) as fake:
        session = connect(fake.url)
        steps = list(session.generate(encode("hello"), sampling, Limits(9), top=2))
        streamed = [body for _, body, _ in fake.requests if body and body.get("stream")]
        assert streamed[-1]["logprobs"] == asked
        assert all(len(step.candidates) == 2 for step in steps)
        if 0 < sampling.top_k < 100 and sampling.temperature:
            assert all(step.sampling_logprob is not None for step in steps)
        session.close()


def test_a_text_that_nobody_wants_ends_without_the_garbage_collector(session: Session) -> None:
    """It may come in the middle of another request, and close what that one waits for."""
    gc.disable()
    try:
        drawing = session.generate(encode("hello"), Sampling(seed=1), Limits(20))
        assert next(drawing).position == len(encode("hello"))
        is_alive = weakref.ref(drawing._drawn)
        del drawing
        assert is_alive() is None
    finally:
        gc.enable()


def test_end_of_text(session: Session) -> None:
    steps = list(session.generate(encode("a"), Sampling(temperature=0, boosted=(((END,), 90.0),))))
    assert [(s.name, s.bytes, s.finish_reason) for s in steps] == [("<|end|>", b"", "eos")]


def test_paths_are_few_requests(session: Session, fake: Fake) -> None:
    ids = encode("hello")
    fake.requests.clear()
    found = session.paths(ids, width=3, depth=2)
    assert len(found) == 3
    best = max(range(SIZE), key=lambda i: logprobs_after(ids)[i])
    assert best in {path.ids[0] for path in found}
    for path in found:
        first = logprobs_after(ids)[path.ids[0]]
        assert path.logprobs == (first, logprobs_after([*ids, path.ids[0]])[path.ids[1]])
    lists = [body for _, body, _ in fake.requests if body and isinstance(body.get("prompt"), list)]
    assert len([body for body in lists if isinstance(body["prompt"][0], list)]) == 2


def test_chat(session: Session) -> None:
    first = session.turn([], "hello")
    assert session.decode(first.ids) == "user: helloassistant:"
    assert [i for p, i in enumerate(first.ids) if p not in first.template] == encode("hello")
    later = session.turn([*first.ids, *encode("hi"), END], "more")
    assert later.ids[len(first.ids) :] == [
        *encode("hi"),
        END,
        *encode("user: more"),
        END,
        *encode("assistant:"),
    ]


_COMPLETE = "/v1/completions"


def _event(**choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": "", "finish_reason": None, **choice}]}


def _logprobs(**changes: Any) -> dict[str, Any]:
    return {
        "tokens": ["token_id:70"],
        "token_logprobs": [-1.0],
        "top_logprobs": [{"token_id:70": -1.0, "token_id:71": -2.0}],
        **changes,
    }


HOSTILE = {
    "no id": _logprobs(tokens=["hello"]),
    "id too large": _logprobs(tokens=["token_id:99999999999999999999"]),
    "negative id": _logprobs(tokens=["token_id:-1"]),
    "not in the vocabulary": _logprobs(tokens=["token_id:5000"]),
    "id is a number": _logprobs(tokens=[70]),
    "NaN": _logprobs(token_logprobs=[math.nan]),
    "infinity": _logprobs(token_logprobs=[math.inf]),
    "positive": _logprobs(token_logprobs=[5.0]),
    "text": _logprobs(token_logprobs=["-1"]),
    "true": _logprobs(token_logprobs=[True]),
    "too few": _logprobs(token_logprobs=[]),
    "candidates are a list": _logprobs(top_logprobs=[[1]]),
    "candidates are a text": _logprobs(top_logprobs=["x"]),
    "tokens are a text": _logprobs(tokens="token_id:70"),
    "a list": [1],
}


@pytest.mark.parametrize("logprobs", HOSTILE.values(), ids=HOSTILE)
def test_hostile_numbers(session: Session, fake: Fake, logprobs: Any) -> None:
    fake.routes[_COMPLETE] = events(_event(logprobs=logprobs, token_ids=[70]))
    with pytest.raises(UserError, match=r"in a form that is not known|there is no token 5000"):
        list(session.generate(encode("a"), GREEDY))


@pytest.mark.parametrize(
    "answer",
    [
        events(),
        events(_event(logprobs=_logprobs())),  # it stops without a reason
        events([1]),
        events({"choices": 5}),
        events({"choices": [5]}),
        Answer([b": nothing\n\n"] * 3, kind=EVENTS),
    ],
)
def test_streams_without_an_end(session: Session, fake: Fake, answer: Answer) -> None:
    fake.routes[_COMPLETE] = answer
    with pytest.raises(UserError):
        list(session.generate(encode("a"), GREEDY))


def test_minus_infinity_is_no_candidate(session: Session, fake: Fake) -> None:
    top = {"token_id:70": -1.0, "token_id:71": -math.inf, "token_id:72": math.nan}
    event = _event(logprobs=_logprobs(top_logprobs=[top]), finish_reason="length")
    fake.routes[_COMPLETE] = events(event)
    step = next(iter(session.generate(encode("a"), GREEDY)))
    assert [c.token_id for c in step.candidates] == [70]


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 2**70)
    | st.floats()
    | st.sampled_from(["token_id:70", "token_id:", "70", "stop", "", "\x1b[31m"]),
    lambda v: (
        st.lists(v, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "choices logprobs tokens token_logprobs top_logprobs token_ids text "
                "prompt_logprobs finish_reason index logprob rank 70 prompt".split()
            ),
            v,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=_JSON, others=_JSON)
def test_any_json_is_a_sentence(session: Session, fake: Fake, value: Any, others: Any) -> None:
    """Whatever a server answers to whatever is asked, it is an answer or one error."""
    routes = dict(fake.routes)
    stream = events(value, {"choices": [value]}, {"choices": [{"logprobs": value}]})
    fake.routes |= {
        _COMPLETE: lambda body: stream if body.get("stream") else Answer(value),
        "/tokenize": Answer(others),
        "/detokenize": Answer(others),
    }
    ids = encode("hello")
    try:
        for ask in (
            lambda: list(session.generate(ids, GREEDY, Limits(3))),
            lambda: list(session.score(ids)),
            lambda: session.paths(ids, width=2, depth=2),
            lambda: session.waterfall(ids, GREEDY),
            lambda: session.turn([], "x"),
        ):
            try:
                json.dumps(str(ask()))
            except UserError as error:
                assert "\x1b" not in str(error)
    finally:
        fake.routes.clear()
        fake.routes |= routes


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=_JSON)
def test_any_list_of_models_is_a_sentence(fake: Fake, value: Any) -> None:
    fake.routes.clear()
    fake.routes["/version"] = Answer(value)
    for body in (value, {"data": value}, {"data": [value]}):
        fake.routes["/v1/models"] = Answer(body)
        with pytest.raises(UserError):
            connect(fake.url)
