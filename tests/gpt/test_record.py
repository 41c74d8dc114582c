from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import pytest

from gpt.record import Record


@dataclass(frozen=True)
class Inner(Record):
    n: int
    data: bytes = b""


@dataclass(frozen=True)
class Outer(Record):
    inner: tuple[Inner, ...]
    numbers: tuple[tuple[float, ...], ...]
    name: Literal["a", "b"]
    maybe: tuple[float | None, ...] | None = None
    flag: bool = False


WHOLE = Outer((Inner(1, b"\xff\x00"), Inner(2)), ((1.0, 2.5), ()), "b", (None, 1.0), True)


def test_a_record_survives_json() -> None:
    assert Outer.from_dict(json.loads(json.dumps(WHOLE.to_dict()))) == WHOLE
    assert Outer.from_dict({"inner": [], "numbers": [], "name": "a"}) == Outer((), (), "a")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"inner": 3}, "inner must be a list"),
        ({"inner": [{"n": True}]}, "inner n must be a whole number"),
        ({"inner": [{"n": 1, "data": [256]}]}, "inner data"),
        ({"inner": [[]]}, "inner a record must be an object"),
        ({"numbers": [["a"]]}, "numbers must be a number"),
        ({"name": "c"}, "name must be one of a, b"),
        ({"name": ["a"]}, "name must be one of a, b"),
        ({"flag": 1}, "flag must be true or false"),
        ({"maybe": 1}, "maybe must be a list"),
        ({"more": 1}, "there is no field 'more'"),
    ],
)
def test_another_shape_is_refused_by_name(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Outer.from_dict({**WHOLE.to_dict(), **change})
    with pytest.raises(ValueError, match="name is missing"):
        Outer.from_dict({"inner": [], "numbers": []})
