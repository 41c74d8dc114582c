"""Every request can be cancelled, reports its progress, and is answered exactly once."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt.checkpoint import save
from gpt.model import GPT
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model
from tests.gpt.served import PATIENCE, Line, Served, finals

TEXT = "to be or not to be. " * 40
ENDLESS = {"op": "generate", "text": "a", "max_new_tokens": 10**9, "slide": True}
MUTED = {"kind": "knockout", "part": "head", "layer": 1, "head": 1}
STEER = {"kind": "steer", "layer": 1, "towards": ["to"], "away": ["be"]}
LONG: dict[str, Line] = {
    "score": {"text": TEXT},
    "generate": {"text": TEXT, "echo_from": 0, "max_new_tokens": 1},
    "generate without the prompt": {"text": TEXT, "max_new_tokens": 1},
    "waterfall": {"text": TEXT},
    "paths": {"text": TEXT},
    "layers": {"text": TEXT},
    "attribution": {"text": TEXT},
    "options": {"text": TEXT, "options": ["a", "b"]},
    "compare": {"text": TEXT},
    "score changed": {"text": TEXT, "interventions": [MUTED]},
    "generate changed": {"text": TEXT, "max_new_tokens": 1, "interventions": [MUTED]},
    "lens": {"text": TEXT},
    "cell": {"text": TEXT},
    "heads": {"text": TEXT},
    "work": {"text": TEXT},
    "norms": {"text": TEXT},
    "parts": {"text": TEXT},
    "mattered": {"text": TEXT},
    "effect": {"text": TEXT, "interventions": [MUTED]},
    "steering": {"text": TEXT, "interventions": [STEER]},
    "patch": {"text": TEXT[:400], "other_text": TEXT[1:401]},
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Served]:
    """With two models that read 1024 tokens."""
    save(tmp_path / "tiny", random_model(block_size=1024), CharTokenizer(CHARACTERS))
    load = {"op": "load", "model": str(tmp_path / "tiny")}
    served = Served({**load, "id": "load"}, {**load, "id": "second", "second": True})
    yield served
    served.close()


def request(name: str, number: Any) -> Line:
    return {"id": number, "op": name.partition(" ")[0], **LONG[name]}


@pytest.mark.parametrize("name", LONG)
def test_every_long_request_can_be_cancelled(
    name: str, engine: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, arrived = threading.Event(), threading.Event()
    hidden = GPT.hidden

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert arrived.wait(PATIENCE)
        return hidden(*arguments)

    monkeypatch.setattr(GPT, "hidden", slow)
    engine.send(request(name, 1))
    assert begun.wait(PATIENCE)
    engine.send({"op": "cancel", "id": 1})
    engine.send({"op": "models", "id": "later"})
    engine.barrier()
    arrived.set()
    done = engine.final(1)
    assert (done["event"], done["finish_reason"]) == ("done", "cancelled")
    assert {"tokens", "seconds"} <= done.keys()
    engine.final("later")
    assert len(finals(engine.lines, 1)) == 1


def test_a_waiting_request_can_be_cancelled(engine: Served) -> None:
    engine.send({"id": 1, **ENDLESS})
    engine.wait(lambda lines: any(line["event"] == "steps" for line in lines))
    others = ["load", "tokenize", "models", "unload", *LONG]
    for number, name in enumerate(others, 2):
        engine.send({"id": number, "op": name.partition(" ")[0], **LONG.get(name, {"text": "a"})})
        engine.send({"op": "cancel", "id": number})
    engine.send({"op": "cancel", "id": 1})
    for number in range(1, len(others) + 2):
        assert engine.final(number)["finish_reason"] == "cancelled"


@pytest.mark.parametrize("name", LONG)
def test_a_long_request_reports_its_progress(
    name: str, engine: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.protocol.reply.TELL_SECONDS", 0.0)
    engine.ask(request(name, 1))
    said = [line["message"] for line in engine.of(1) if line["event"] == "status"]
    assert said
    known = r"(reading|layer|option|length|without|token|direction,) .*\d of [\d,]+( tokens)?"
    assert all(re.fullmatch(known, message) for message in said), said
    if name not in ("layers", "heads", "norms", "steering", "patch"):
        assert re.match(r"reading \d+ of 8\d\d tokens", said[0])


def test_a_short_request_reports_no_progress(
    engine: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.protocol.reply.TELL_SECONDS", 3600.0)
    for name in LONG:
        engine.ask(request(name, name))
        assert all(line["event"] != "status" for line in engine.of(name))


def test_an_id_that_was_cancelled_once_can_be_used_again(engine: Served) -> None:
    for count in range(1, 4):
        engine.send({"id": 1, **ENDLESS})
        engine.send({"op": "cancel", "id": 1})
        engine.wait(lambda lines, n=count: len(finals(lines, 1)) == n)  # type: ignore[misc]
    engine.send({"id": 1, **ENDLESS, "max_new_tokens": 3})
    engine.wait(lambda lines: len(finals(lines, 1)) == 4)
    reasons = [line["finish_reason"] for line in finals(engine.lines, 1)]
    assert reasons == ["cancelled"] * 3 + ["length"]


@pytest.mark.parametrize("number", [7, True, 7.0, "7", None, [], "unknown"])
def test_cancelling_an_unknown_request_does_nothing(number: Any, engine: Served) -> None:
    for cancel in ({"op": "cancel", "id": number}, {"op": "cancel"}):
        engine.send(cancel)
    assert engine.ask({"id": 7, **ENDLESS, "max_new_tokens": 3})["finish_reason"] == "length"
    assert engine.of(None)[1:] == []


@pytest.mark.parametrize("op", ["explode", "", None, 5, [], {}, "cancel "])
def test_an_unknown_op_is_answered_with_its_own_id(op: Any, engine: Served) -> None:
    error = engine.ask({"id": "mine", "op": op})
    assert error["event"] == "error"
    assert "op" in error["message"]


@pytest.mark.parametrize("number", [True, 1.5, float("nan"), [], {}])
def test_an_id_is_a_text_or_a_whole_number(number: Any, engine: Served) -> None:
    engine.send({"id": number, "op": "models"})
    engine.wait(lambda lines: len([each for each in lines if each["id"] is None]) == 2)
    assert "id" in engine.of(None)[1]["message"]


def test_the_end_of_the_input_ends_what_runs_and_what_waits(tmp_path: Path) -> None:
    save(tmp_path / "tiny", random_model(), CharTokenizer(CHARACTERS))
    engine = Served({"id": 0, "op": "load", "model": str(tmp_path / "tiny")})
    engine.send({"id": 1, **ENDLESS})
    engine.send({"id": 2, **ENDLESS})
    engine.wait(lambda lines: any(line["event"] == "steps" for line in lines))
    engine.close()
    for number in (1, 2):
        (done,) = finals(engine.lines, number)
        assert done["finish_reason"] == "cancelled"


class Panic(BaseException):
    """Stands for the exception of a Rust library that panics."""


@pytest.mark.parametrize(
    "error",
    [
        Panic("gave up"),
        MemoryError(),
        RecursionError(),
        KeyError(1),
        BrokenPipeError(),
        SystemExit(),
    ],
)
def test_whatever_a_request_raises_it_is_answered_and_the_engine_goes_on(
    error: BaseException,
    engine: Served,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: Any) -> Any:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(CharTokenizer, "encode", fails)
        answer = engine.ask({"id": 1, "op": "tokenize", "text": "a"})
    assert answer["event"] == "error"
    assert engine.ask({"id": 2, "op": "tokenize", "text": "a"})["event"] == "tokens"
