"""Servers that cannot run in tests: the shapes that their documents give."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gpt.errors import UserError
from gpt.limits import Limits
from gpt.progress import NOBODY
from gpt.remote.connect import connect
from gpt.remote.http import Http
from gpt.remote.llamacpp import LlamaCpp
from gpt.remote.server import ModelFacts, Piece
from gpt.remote.session import Session
from gpt.remote.sglang import SgLang
from gpt.server_address import read_address
from gpt.settings import Sampling
from tests.gpt.fake_server import Answer, Fake, Route, events, serving
from tests.gpt.vllm_double import END, SIZE, decode, encode, logprobs_after

GREEDY = Sampling(temperature=0)


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("gpt.remote.token_strings._characters", lambda: "é")


def _best(ids: list[int], top: int) -> list[int]:
    found = logprobs_after(ids)
    return sorted(range(SIZE), key=lambda i: -found[i])[:top]


def _rows(ids: list[int], top: int) -> list[list[Any]]:
    found = logprobs_after(ids)
    return [[found[i], i, None] for i in _best(ids, top)]


def _sglang(body: Any, *, repeats: bool = True) -> Answer:
    """/generate. repeats: whether each event has all tokens so far, as is usual."""
    if isinstance(body["input_ids"][0], list):
        one = [json.loads(json.dumps({**body, "input_ids": ids})) for ids in body["input_ids"]]
        return Answer(json.dumps([_sglang(each).body for each in one]).encode())
    ids, top = body["input_ids"], body["top_logprobs_num"]
    settings = body["sampling_params"]
    path, output, tops = list(ids), [], []
    for _ in range(settings["max_new_tokens"]):
        token_id = _best(path, 1)[0]
        output.append([logprobs_after(path)[token_id], token_id, None])
        tops.append(_rows(path, top))
        path.append(token_id)
    meta: dict[str, Any] = {"prompt_tokens": len(ids), "finish_reason": None}
    if body["logprob_start_len"] == 0:
        rows = [[logprobs_after(ids[:n])[i], i, None] for n, i in enumerate(ids)]
        rows[0][0] = None
        meta["input_token_logprobs"] = rows
        meta["input_top_logprobs"] = [None, *(_rows(ids[:n], top) for n in range(1, len(ids)))]

    def event(start: int, stop: int) -> dict[str, Any]:
        start = 0 if repeats else start
        finish = {"type": "length"} if stop == len(output) else None
        return {
            "text": "",
            "meta_info": {
                **meta,
                "completion_tokens": stop,
                "finish_reason": finish,
                "output_token_logprobs": output[start:stop],
                "output_top_logprobs": tops[start:stop],
            },
        }

    if body.get("stream"):
        n = len(output)
        return events(*(event(at, min(at + 2, n)) for at in range(0, n, 2)))
    return Answer(event(0, len(output)))


def _detokenize(body: Any) -> Answer:
    skips = body["skip_special_tokens"]
    return Answer({"text": decode([i for i in body["tokens"] if not (skips and i == END)])})


@pytest.mark.parametrize("repeats", [True, False])
def test_sglang(repeats: bool) -> None:
    routes: dict[str, Route] = {
        "/v1/models": Answer({"data": [{"id": "toy", "owned_by": "sglang", "max_model_len": 64}]}),
        "/get_server_info": Answer({"version": "0.5.0", "tp_size": 1}),
        "/tokenize": lambda body: Answer({"tokens": encode(body["prompt"])}),
        "/detokenize": _detokenize,
        "/generate": lambda body: _sglang(body, repeats=repeats),
    }
    with serving(routes) as fake:
        session = connect(fake.url)
        can = session.capabilities
        assert (can.server, can.prompt, can.chat) == ("SGLang 0.5.0", "one request", False)
        assert session.model.block_size == 64
        ids = encode("hello world")
        steps = list(session.generate(ids, GREEDY, Limits(5), top=3))
        path = list(ids)
        for step in steps:
            assert step.token_id == _best(path, 1)[0]
            assert step.logprob == logprobs_after(path)[step.token_id]
            assert [c.token_id for c in step.candidates] == _best(path, 3)
            path.append(step.token_id)
        assert len(steps) == 5 and steps[-1].finish_reason == "length"
        scored = list(session.score(ids, top=2))
        assert [s.token_id for s in scored] == ids
        for n, step in enumerate(scored[1:], 1):
            assert step.logprob == logprobs_after(ids[:n])[step.token_id]
        assert len(session.paths(ids, width=2, depth=2)) == 2
        assert session.pieces([END])[END] == Piece(b"", "<|end|>")
        typed = session.encode("a<|end|>b")
        assert END not in typed and session.decode(typed) == "a<|end|>b"
        session.close()


def test_text_that_looks_like_a_special_token_at_sglang() -> None:
    def detokenize(body: Any) -> Answer:
        return Answer({"text": "[i]" if body["tokens"] == [7] else ""})

    with serving({"/tokenize": Answer({"tokens": [1]}), "/detokenize": detokenize}) as fake:
        http = Http(read_address(fake.url))
        assert SgLang(http, ModelFacts("toy")).pieces([7]) == {7: Piece(b"[i]")}
        http.close()


@pytest.mark.parametrize("entry", [5, "id", None, [], {}, {"id": 1}, {"id": True, "logprob": -1}])
def test_candidates_of_another_shape_at_llamacpp(entry: Any) -> None:
    with serving({}) as fake:
        http = Http(read_address(fake.url))
        token = {"id": 1, "logprob": -1, "top_logprobs": [entry]}
        fake.routes["/completion"] = Answer({"completion_probabilities": [token]})
        server = LlamaCpp(http, ModelFacts("toy"))
        with pytest.raises(UserError, match="in a form that is not known"):
            list(server.read([0, 1], 1, 5, NOBODY))
        http.close()


def _completion(body: Any) -> Answer:
    """/v1/completions with text alone, as OpenAI's documents have it; at most 5 candidates."""
    if body.get("logprobs", 0) > 5:
        return Answer({"error": {"message": "logprobs must be at most 5"}}, 400)
    words = [" a", " b", " a"][: body["max_tokens"]]
    parts: list[Any] = []
    for n, word in enumerate(words):
        choice: dict[str, Any] = {"index": 0, "text": word, "finish_reason": None}
        if n == len(words) - 1:
            choice["finish_reason"] = "length"
        if top := body.get("logprobs"):
            names = {" a": -0.5, " b": -1.5, " c": -3.0}
            choice["logprobs"] = {
                "tokens": [word],
                "token_logprobs": [names[word]],
                "top_logprobs": [dict(list(names.items())[:top])],
            }
        parts.append({"choices": [choice]})
    return events(*parts) if body.get("stream") else Answer(parts[0])


@pytest.fixture
def fake() -> Iterator[Fake]:
    models = Answer({"data": [{"id": "some", "owned_by": "library"}, {"id": "other"}]})
    with serving({"/v1/models": models, "/v1/completions": _completion}) as found:
        yield found


@pytest.fixture
def session(fake: Fake) -> Iterator[Session]:
    session = connect(fake.url, model="some")
    yield session
    session.close()


def test_a_server_of_another_kind(session: Session, fake: Fake) -> None:
    can = session.capabilities
    assert can.server == "OpenAI completions" and can.models == ("some", "other")
    assert (can.prompt, can.has_ids, can.chat, can.is_exact) == ("none", False, False, False)
    ids = session.encode("Hello é")
    steps = list(session.generate(ids, GREEDY, Limits(3), top=2))
    assert [step.bytes for step in steps] == [b" a", b" b", b" a"]
    assert [(s.logprob, s.rank) for s in steps] == [(-0.5, 1), (-1.5, 2), (-0.5, 1)]
    assert all(step.entropy_is_bound and len(step.candidates) == 2 for step in steps)
    path = [*ids, *(step.token_id for step in steps)]
    list(session.generate(path, GREEDY, Limits(1)))
    assert fake.requests[-1][1]["prompt"] == "Hello é a b a"
    assert [step.logprob for step in session.score(path)] == [None] * 4
    with pytest.raises(UserError, match="does not show the ids of a chat"):
        session.turn([], "hello")
    with pytest.raises(UserError, match="names no token ids"):
        list(session.generate([12345], GREEDY))


def test_many_models(fake: Fake) -> None:
    with pytest.raises(UserError, match="has 2 models; name one of: some, other"):
        connect(fake.url)
    with pytest.raises(UserError, match="did you mean other"):
        connect(fake.url, model="othr")
