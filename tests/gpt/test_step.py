"""Steps from our own engine, and from files that may hold anything."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.step import Candidate, FinishReason, Step

IDS = st.integers(0, 2**31 - 1)
LOGPROBS = st.floats(-3.4e38, 0)
STEPS = st.builds(
    Step,
    IDS,
    IDS,
    st.binary(max_size=4),
    st.text(max_size=4),
    st.none() | LOGPROBS,
    st.none() | IDS,
    st.none() | st.floats(0, 22),
    st.lists(
        st.builds(Candidate, IDS, st.binary(max_size=4), LOGPROBS, st.none() | LOGPROBS), max_size=2
    ).map(tuple),
    st.none() | LOGPROBS,
    st.none() | st.sampled_from(get_args(FinishReason)),
    mirostat_mu=st.none() | st.floats(-1e9, 1e9),
    by_template=st.booleans(),
    entropy_is_bound=st.booleans(),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
BASE = Step(1, 2, b"a", "a", -1.0, 1, 0.5, (Candidate(2, b"a", -1.0, None),), -0.5, "stop")


@given(STEPS)
def test_what_was_written_is_read(step: Step) -> None:
    values = json.loads(json.dumps(step.to_dict()))
    assert Step.from_untrusted(values) == Step.from_dict(values) == step


def is_sound(step: Step) -> bool:
    """Whether all numbers are finite."""
    numbers = [step.logprob, step.sampling_logprob, step.entropy, step.rank]
    for each in step.candidates:
        numbers += [each.logprob, each.sampling_logprob]
    return all(n is None or (type(n) in (int, float) and math.isfinite(n)) for n in numbers)


@given(st.sampled_from(sorted(BASE._asdict())), st.none() | st.integers(0, 4), JSON)
def test_any_value_in_any_place_is_refused_or_sound(name: str, at: int | None, odd: Any) -> None:
    values = BASE.to_dict()
    if at is None:
        values[name] = odd
    else:
        candidate = values["candidates"][0]
        candidate[list(candidate)[at]] = odd
    try:
        step = Step.from_untrusted(values)
    except (ValueError, TypeError):
        return
    assert is_sound(step) and isinstance(step.text, str) and step.position >= 0


@given(JSON)
def test_anything_else_is_refused(values: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Step.from_untrusted(values)
