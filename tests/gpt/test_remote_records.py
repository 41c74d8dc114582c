"""Answers of a real vLLM 0.32, recorded and trimmed, replayed to what reads them.

records/vllm.json: name → path, the body that was asked, status, and the response or the lines of
its stream. Fields that nobody reads are left out; "half characters" came with log-probabilities
keyed by text, which are left out as well. Most are of a random GPT-2 that has GPT-2's vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gpt.capabilities import Capabilities
from gpt.errors import UserError
from gpt.limits import Limits
from gpt.progress import NOBODY
from gpt.remote.alphabet import bytes_of
from gpt.remote.connect import identify
from gpt.remote.http import Http
from gpt.remote.openai import OpenAi
from gpt.remote.server import ModelFacts, Piece
from gpt.remote.session import Session
from gpt.remote.vllm import Vllm
from gpt.server_address import read_address
from gpt.settings import Sampling
from gpt.step import Step
from tests.gpt.fake_server import EVENTS, Answer, Fake, Route, serving

RECORDS: dict[str, Any] = json.loads(
    Path(__file__).with_name("records").joinpath("vllm.json").read_text("utf-8")
)
GREEDY = Sampling(temperature=0)
IDS = [464, 3139, 286, 4881, 318]  # "The capital of France is", the prompt of the records
PROMPT_ROWS = RECORDS["prompt"]["response"]["choices"][0]["prompt_logprobs"]
TOKENS = RECORDS["tokenize"]["response"]
BYTES = {int(i): v["decoded_token"].encode() for row in PROMPT_ROWS[1:] for i, v in row.items()}
BYTES |= {
    i: bytes_of(string, byte_level=True)
    for i, string in zip(TOKENS["tokens"], TOKENS["token_strs"], strict=True)
}


class Recorded(Vllm):
    """Its bytes are those of the records; how they are asked for is another test's."""

    def pieces(self, ids: Sequence[int]) -> dict[int, Piece]:
        return {i: Piece(BYTES.get(i, b"?")) for i in ids}


class Replay(NamedTuple):
    """A session with a server that answers records."""

    session: Session
    server: Vllm
    http: Http
    fake: Fake

    def asked(self, n: int, name: str, *changed: str) -> bool:
        """Whether request n has the fields of the record's request, but for these."""
        path, sent, _ = self.fake.requests[n]
        wanted = RECORDS[name]["body"].items()
        differ = {key for key, value in wanted if sent.get(key) != value}
        return path == RECORDS[name]["path"] and differ == set(changed)


@contextmanager
def replaying(*names: str, block_size: int = 0, api_key_env: str = "") -> Iterator[Replay]:
    """A server that answers these records, those of a path one after another."""
    answers: dict[str, list[Answer]] = {}
    for record in map(RECORDS.__getitem__, names):
        answer = Answer(record.get("response"), record["status"])
        if "lines" in record:
            answer = Answer(["\n".join([*record["lines"], ""]).encode()], kind=EVENTS)
        answers.setdefault(record["path"], []).append(answer)

    def route(found: list[Answer]) -> Route:
        return lambda body: found.pop(0)

    with serving({path: route(found) for path, found in answers.items()}) as fake:
        http = Http(read_address(fake.url), api_key_env)
        server = Recorded(http, ModelFacts("tiny", block_size=block_size))
        session = Session(http, server, Capabilities(inside=False))
        session._drops_blank = False
        try:
            yield Replay(session, server, http, fake)
        finally:
            http.close()
        assert not any(answers.values())  # all were asked for


def _events(name: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in RECORDS[name]["lines"]]
    return [json.loads(line)["choices"][0] for line in lines if line.startswith("{")]


def _logprobs(name: str) -> Any:
    return RECORDS[name]["response"]["choices"][0]["logprobs"]


def _by_id(keyed: dict[str, float]) -> dict[int, float]:
    return {int(key.removeprefix("token_id:")): value for key, value in keyed.items()}


def test_what_the_server_is() -> None:
    with replaying("models", "version") as replay:
        found = identify(replay.http)
    assert (found.kind, found.version) == ("vLLM", "0.32.0")
    assert found.models == [ModelFacts("tiny", block_size=256)]


def test_tokens_of_a_text() -> None:
    names = ["tokenize", "detokenize", "detokenize half a character"]
    text = RECORDS["tokenize"]["body"]["prompt"]
    with replaying(*names) as replay:
        assert replay.session.encode(text) == TOKENS["tokens"]
        assert replay.session.decode(TOKENS["tokens"]) == text
        for name in names[1:]:
            found = replay.server._detokenize(RECORDS[name]["body"]["tokens"])
            assert found == RECORDS[name]["response"]["prompt"]
        assert all(replay.asked(n, name) for n, name in enumerate(names))


def test_a_stream() -> None:
    with replaying("stream") as replay:
        steps = list(replay.session.generate(IDS, GREEDY, Limits(3), top=1))
        assert replay.asked(0, "stream", "prompt")
    events = _events("stream")
    assert replay.fake.requests[0][1]["prompt"] == IDS == events[0]["prompt_token_ids"]
    found = [event["logprobs"] for event in events]
    assert [s.token_id for s in steps] == [i for event in events for i in event["token_ids"]]
    assert [s.logprob for s in steps] == [v for each in found for v in each["token_logprobs"]]
    tops = [_by_id(top) for each in found for top in each["top_logprobs"]]
    assert [{c.token_id: c.logprob for c in s.candidates} for s in steps] == tops
    assert [(s.position, s.rank) for s in steps] == [(5, 1), (6, 1), (7, 1)]
    assert "".join(s.text for s in steps) == "".join(event["text"] for event in events)
    assert [s.finish_reason for s in steps] == [None, None, "length"]


def test_half_characters() -> None:
    with replaying("half characters") as replay:
        steps = list(replay.session.generate(IDS, GREEDY, Limits(6), top=1))
    events = _events("half characters")
    assert [[s.token_id] for s in steps] == [event["token_ids"] for event in events]
    assert [s.text for s in steps[:3]] == [event["text"] for event in events[:3]] == ["", "", "🦥"]
    assert b"".join(s.bytes for s in steps[:3]) == "🦥".encode()
    assert {(s.logprob, s.rank, s.entropy) for s in steps} == {(None, None, None)}
    assert steps[-1].finish_reason == "length"


def test_what_follows() -> None:
    with replaying("completion", "all candidates") as replay:
        (top,) = replay.server.following([IDS], 2, NOBODY)
        assert replay.asked(0, "completion", "prompt", "max_tokens")
        assert replay.server.whole_size() == 0
    assert top == tuple(_by_id(_logprobs("completion")["top_logprobs"][0]).items())


def test_tokens_that_settings_removed() -> None:
    """A server started with --logprobs-mode processed_logprobs gives them -9999."""
    with replaying("removed by settings") as replay:
        (top,) = replay.server.following([IDS], 3, NOBODY)
    assert dict(top) == _by_id(_logprobs("removed by settings")["top_logprobs"][0])
    assert top[-1] == (1, -9999)


def _check_prompt(steps: Sequence[Step], rows: Sequence[Any]) -> None:
    assert (steps[0].logprob, steps[0].rank) == (None, None)
    for step, row in zip(steps[1:], rows[1:], strict=True):
        own = row[str(step.token_id)]
        assert (step.logprob, step.rank) == (own["logprob"], own["rank"])
        assert step.text == own["decoded_token"]
        best = sorted(row.values(), key=lambda entry: entry["rank"])[:2]
        shown = [(entry["logprob"], entry["decoded_token"]) for entry in best]
        assert [(c.logprob, c.text) for c in step.candidates] == shown


def test_a_prompt_that_fills_the_context() -> None:
    """Its last token has no room after it, so it is forced, and is no candidate."""
    forced = "chosen outside the candidates"
    with replaying("prompt", forced, block_size=6) as replay:
        steps = list(replay.session.score([*IDS, 464], top=2))
        assert replay.asked(0, "prompt", "prompt")
        assert replay.asked(1, forced, "prompt", "seed", "allowed_token_ids")
        assert replay.fake.requests[1][1]["allowed_token_ids"] == [464]
    _check_prompt(steps[:5], PROMPT_ROWS)
    assert (steps[5].token_id, steps[5].rank) == (464, None)
    assert steps[5].logprob == _logprobs(forced)["token_logprobs"][0]
    assert [c.token_id for c in steps[5].candidates] == [318, 20860]


def test_echo_has_the_same_numbers() -> None:
    with replaying("echo", "echo") as replay:
        steps = list(replay.session.score(IDS, top=2))
        assert [s.logprob for s in steps] == _logprobs("echo")["token_logprobs"]
        assert [s.text for s in steps] == _logprobs("echo")["tokens"]
        with pytest.raises(UserError, match="a token without its id"):  # keyed by text
            replay.server.following([IDS], 2, NOBODY)


ERRORS: dict[str, Callable[[Replay], object]] = {
    "context": lambda replay: list(replay.session.generate([464] * 300, GREEDY)),
    "unknown model": lambda replay: list(replay.session.generate(IDS, GREEDY)),
    "unknown path": lambda replay: replay.http.post("/v1/nope", {}),
    "too many candidates": lambda replay: list(replay.session.generate(IDS, GREEDY, top=70_000)),
    "all candidates": lambda replay: replay.server.following([IDS], -1, NOBODY),
    "too many of the prompt": lambda replay: list(replay.session.score(IDS, top=21)),
    "bad id": lambda replay: list(replay.session.score([464, 99_999])),
    "wrong type": lambda replay: list(replay.server.draw([-1], GREEDY, 1, 1, NOBODY)),
    "no chat template": lambda replay: replay.session.turn([], "hi"),
    "engine died": lambda replay: list(replay.session.generate(IDS, GREEDY)),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_are_one_sentence(name: str) -> None:
    response = RECORDS[name]["response"]
    words = " ".join((response.get("detail") or response["error"]["message"]).split())
    words = words if len(words) <= 400 else words[:399] + "…"
    with replaying(name) as replay, pytest.raises(UserError) as error:
        ERRORS[name](replay)
    assert str(error.value) == f"the server at {replay.http.address.place} refused this: {words}"


@pytest.mark.parametrize(
    ("name", "variable", "advice"),
    [("no key", "", "name the environment"), ("wrong key", "TEST_KEY", "check the key")],
)
def test_keys(monkeypatch: pytest.MonkeyPatch, name: str, variable: str, advice: str) -> None:
    monkeypatch.setenv("TEST_KEY", "wrong")
    with replaying(name, api_key_env=variable) as replay:
        with pytest.raises(UserError, match=f"wants a key: Unauthorized; {advice}"):
            identify(replay.http)
        assert ("Authorization" in replay.fake.requests[0][2]) == bool(variable)


def test_a_server_that_is_ended_in_a_stream() -> None:
    """Its error comes as an event and [DONE] after it, which does not mean success."""
    with replaying("killed") as replay:
        server, found = OpenAi(replay.http, ModelFacts("smol")), list[Any]()
        ids = [server._id("Once upon a time")]
        with pytest.raises(UserError, match="failed: EngineCore encountered an issue"):
            for reading in server.draw(ids, GREEDY, 1500, 1, NOBODY):
                found.append((server._text([reading.token_id]), reading.logprob))
    assert found == [(" city", -1.0173932313919067)]
