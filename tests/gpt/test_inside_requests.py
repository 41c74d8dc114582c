"""The engine's requests about the inside of the network give what the functions give."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt.checkpoint import load, save
from gpt.context import Context
from gpt.generate import Limits, generate, score
from gpt.interpret.explain import waterfall
from gpt.interpret.grid import lens_cell, lens_grid, stream_norms
from gpt.interpret.heads import heads, work
from gpt.interpret.intervene import effect, intervened
from gpt.interpret.lens import attribution
from gpt.interpret.logit_parts import logit_parts
from gpt.interpret.mattered import mattered
from gpt.interpret.patch import patch_grid
from gpt.interpret.steer import steering
from gpt.interpret.words import neighbours, plane, position_neighbours
from gpt.interventions import Edge, Intervention, Knockout, Steer, to_dicts
from gpt.protocol.inside import INSIDE
from gpt.record import Record
from gpt.settings import Sampling
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model
from tests.gpt.served import Line, Served

TEXT, OTHER = "to be or not", "to go or now"
HEAD = Knockout(part="head", layer=1, head=2)
EDGE = Edge(source=2, layer=2, head=1)
STEER = Steer(layer=1, towards=("to",), away=("be",), strength=2)
CHANGES: tuple[Intervention, ...] = (HEAD, EDGE, STEER)
Answer = Callable[[Context, list[int]], Record]


def changed(look: Answer) -> Answer:
    """A look at the changed network."""

    def answer(context: Context, ids: list[int]) -> Record:
        with intervened(context, CHANGES, ids) as other:
            return look(other, ids)

    return answer


def other_ids(context: Context) -> list[int]:
    return context.encode(OTHER)


ANSWERS: dict[str, tuple[Line, Answer]] = {
    "lens": (
        {"last": 5, "middle": True},
        lambda c, ids: lens_grid(c, ids, last=5, has_middle=True),
    ),
    "cell": ({"layer": 1, "top": 3}, lambda c, ids: lens_cell(c, ids, 1, top=3)),
    "heads": ({}, heads),
    "work": ({"layer": 2, "head": 2}, lambda c, ids: work(c, ids, 2, 2)),
    "norms": ({}, stream_norms),
    "parts": ({"chosen": 3, "versus": 7}, lambda c, ids: logit_parts(c, ids, 3, 7)),
    "mattered": ({"chosen": 3, "last": 5}, lambda c, ids: mattered(c, ids, 3, last=5)),
    "effect": ({"interventions": to_dicts(CHANGES)}, lambda c, ids: effect(c, ids, CHANGES)),
    "patch": (
        {"other_text": OTHER, "chosen": 3, "versus": 7, "positions": [4, 6]},
        lambda c, ids: patch_grid(c, ids, other_ids(c), 3, 7, positions=[4, 6]),
    ),
    "neighbours": (
        {"plus": [3, 4], "minus": [5], "matrix": "output", "top": 2},
        lambda c, ids: neighbours(c, [3, 4], [5], matrix="output", top=2),
    ),
    "plane": ({"tokens": [3, 4, 5]}, lambda c, ids: plane(c, [3, 4, 5])),
}
CHANGED: dict[str, tuple[Line, Answer]] = {
    name: (ANSWERS[name][0], changed(ANSWERS[name][1]))
    for name in ("lens", "cell", "heads", "work", "norms", "mattered")
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    save(path, random_model(), CharTokenizer(CHARACTERS))
    return path


@pytest.fixture
def engine(directory: Path) -> Iterator[Served]:
    served = Served({"op": "load", "id": "load", "model": str(directory), "device": "cpu"})
    yield served
    served.close()


def close(found: Any, expected: Any) -> bool:
    """Whether two plain values agree: numbers to 1e-4, everything else exactly."""
    if isinstance(expected, float):
        return found == pytest.approx(expected, abs=1e-4)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            close(found[name], value) for name, value in expected.items()
        )
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(close, found, expected))
    return bool(found == expected)


def asked(engine: Served, op: str, fields: Line) -> Line:
    """The fields of an answer."""
    line = engine.ask({"op": op, "id": f"{op} {len(engine.lines)}", **fields})
    assert line["event"] == op, line
    return {name: value for name, value in line.items() if name not in ("id", "event")}


@pytest.mark.parametrize("op", ANSWERS)
def test_a_request_answers_what_the_function_answers(
    op: str, engine: Served, directory: Path
) -> None:
    fields, answer = ANSWERS[op]
    context = load(directory).new_context()
    expected = answer(context, context.encode(TEXT)).to_dict()
    assert close(asked(engine, op, {"text": TEXT, **fields}), expected)


@pytest.mark.parametrize("op", CHANGED)
def test_a_changed_network_can_be_looked_into(op: str, engine: Served, directory: Path) -> None:
    fields, answer = CHANGED[op]
    context = load(directory).new_context()
    request = {"text": TEXT, **fields, "interventions": to_dicts(CHANGES)}
    found = asked(engine, op, request)
    assert close(found, answer(context, context.encode(TEXT)).to_dict())
    assert not close(found, asked(engine, op, {"text": TEXT, **fields}))


def test_influence_is_that_in_the_changed_network(engine: Served, directory: Path) -> None:
    context = load(directory).new_context()
    ids = context.encode(TEXT)
    fields = {"text": TEXT, "chosen": 3, "last": 9}
    with intervened(context, CHANGES, ids) as other:
        expected = attribution(other, ids, 3, last=9)
    request = {**fields, "interventions": to_dicts(CHANGES)}
    assert close(asked(engine, "attribution", request)["nats"], expected)
    assert not close(asked(engine, "attribution", fields)["nats"], expected)


def test_every_request_has_an_answer() -> None:
    assert INSIDE.keys() == ANSWERS.keys() | {"steering"}


def test_steering_measures_each_direction(engine: Served, directory: Path) -> None:
    context = load(directory).new_context()
    fields = {"text": TEXT, "interventions": to_dicts(CHANGES)}
    (found,) = asked(engine, "steering", fields)["directions"]
    assert close(found, steering(context, context.encode(TEXT), STEER).to_dict())


def test_neighbours_of_a_position(engine: Served, directory: Path) -> None:
    found = asked(engine, "neighbours", {"plus": [3], "matrix": "positions", "top": 2})
    context = load(directory).new_context()
    assert close(found, position_neighbours(context, 3, top=2).to_dict())


def test_texts_are_drawn_and_scored_by_the_changed_network(engine: Served, directory: Path) -> None:
    context = load(directory).new_context()
    ids, sampling = context.encode(TEXT), Sampling(seed=3)
    fields = {"text": TEXT, "interventions": to_dicts(CHANGES)}
    draw = {"op": "generate", "max_new_tokens": 9, "sampling": sampling.to_dict(), "top": 3}
    done = engine.ask({"id": 1, **draw, **fields, "echo_from": 0})
    assert done["compiled"] is False
    with intervened(context, CHANGES, ids) as other:
        expected = list(generate(other, ids, sampling, Limits(9), top=3))
        prompt = list(score(other, ids, top=3))
    assert close(_steps(engine, 1, "steps"), [step.to_dict() for step in expected])
    assert close(_steps(engine, 1, "prompt"), [step.to_dict() for step in prompt])
    path = [*ids, *(step.token_id for step in expected)]
    engine.ask({"id": 2, "op": "score", "ids": path, "interventions": to_dicts([HEAD]), "top": 1})
    with intervened(context, [HEAD], path) as other:
        scored = [step.to_dict() for step in score(other, path, top=1)]
    assert close(_steps(engine, 2, "steps"), scored)
    asked_waterfall = asked(engine, "waterfall", {"ids": ids, **fields, "text": "", "top": 4})
    both = waterfall(context, ids, Sampling(), top=4, interventions=CHANGES)
    assert close(asked_waterfall, both.to_dict())
    engine.ask({"id": 3, **draw, "text": TEXT})
    plain = generate(load(directory).new_context(), ids, sampling, Limits(9), top=3)
    assert close(_steps(engine, 3, "steps"), [step.to_dict() for step in plain])


def _steps(engine: Served, number: int, event: str) -> list[Line]:
    lines = [line for line in engine.of(number) if line["event"] == event]
    return [step for line in lines for step in line["steps"]]


@pytest.mark.parametrize(
    ("op", "fields", "sentence"),
    [
        ("lens", {"interventions": [{"kind": "explode"}]}, "must have a kind"),
        ("lens", {"interventions": {}}, "must be a list"),
        ("score", {"interventions": [{"kind": "edge", "source": 5, "layer": 3}]}, "no layer 3"),
        ("work", {"layer": 3}, "no layer 3"),
        ("parts", {"chosen": 29}, "no token 29"),
        ("mattered", {"measures": ["all"]}, "no measure 'all'"),
        ("patch", {"other_text": "to be"}, "same number of tokens"),
        ("neighbours", {"plus": [1], "matrix": "middle"}, "no matrix 'middle'"),
        ("neighbours", {"plus": [1, 2], "matrix": "positions"}, "exactly one"),
        ("neighbours", {}, "lacks plus"),
        ("plane", {"tokens": [1]}, "two different tokens"),
        (
            "generate",
            {"interventions": to_dicts([EDGE]), "slide": True, "max_new_tokens": 99},
            "at most 32 tokens",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused(
    op: str, fields: Line, sentence: str, engine: Served
) -> None:
    line = engine.ask({"op": op, "id": 1, "text": TEXT, **fields})
    assert line["event"] == "error" and sentence in line["message"]
    assert json.dumps(asked(engine, "norms", {"text": TEXT}))
